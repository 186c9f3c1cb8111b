"""In which order examples are served: a pure function of (seed, epoch, place).

A place is a number in ``range(examples)``. In no memory it becomes the example that stands there:
itself, or by one permutation of all examples, or by permutations of blocks and of what is in a few
of them, so that a disk reads long runs.
"""

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import UsageError
from pipeline.loader.permutation import Numbers, Permutation, key_of

BLOCK, BLOCKS = 256, 32  # examples in a run of the disk, and runs that are mixed together
SHUFFLES = ("none", "examples", "blocks")


def whole(name: str, value: Any, expected: str) -> int:
    """A whole number of any type, NumPy's among them, as Python's: it goes into saved states.

    Raises:
        UsageError: it is none.
    """
    try:
        return int(operator.index(value))
    except TypeError:
        raise UsageError(f"{name}={value!r}: expected {expected}") from None


@dataclass(frozen=True)
class Order:
    """The examples of every epoch in their order.

    Attributes:
        examples: how many there are.
        shuffle: ``"none"``: as stored. ``"examples"``: each epoch has a permutation of its own.
            ``"blocks"``: blocks of 256 consecutive examples are permuted, and then the examples of
            32 blocks in turn.
        seed: of the permutations.
    """

    examples: int
    shuffle: str
    seed: int

    def __post_init__(self) -> None:
        if self.shuffle not in SHUFFLES:
            raise UsageError(f"shuffle={self.shuffle!r}: expected True, False or 'blocks'")
        object.__setattr__(self, "seed", whole("seed", self.seed, "0 to 2^63 - 1"))
        if not 0 <= self.seed < 1 << 63:
            raise UsageError(f"seed={self.seed}: expected 0 to 2^63 - 1")

    def at(self, epoch: int, places: Numbers) -> Numbers:
        """The examples at some places of an epoch, (n,) int64."""
        if self.shuffle == "none" or not len(places):
            return places
        if self.shuffle == "examples":
            return Permutation(self.examples, (self.seed, epoch))(places)
        return self._in_blocks(epoch, places)

    def _in_blocks(self, epoch: int, places: Numbers) -> Numbers:
        """Places → places inside their span of blocks → blocks → examples.

        What is left beyond whole blocks stays last; so that it isn't always the same examples,
        blocks begin somewhere else in every epoch.
        """
        mixed, span = np.empty_like(places), BLOCK * BLOCKS
        numbers = places // span
        for number in np.unique(numbers).tolist():
            here, first = numbers == number, number * span
            inside = Permutation(min(span, self.examples - first), (self.seed, epoch, 1, number))
            mixed[here] = inside(places[here] - first) + first
        blocks, rest = np.divmod(mixed, BLOCK)
        whole = self.examples // BLOCK
        if whole:
            moved = Permutation(whole, (self.seed, epoch, 2))(np.minimum(blocks, whole - 1))
            blocks = np.where(blocks < whole, moved, blocks)
        begin = key_of((self.seed, epoch, 3)) % self.examples
        return (blocks * BLOCK + rest + begin) % self.examples
