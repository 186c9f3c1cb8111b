"""In which order examples are served: a pure function of (seed, epoch, place), shared by all ranks.

Batches are numbered over all ranks together. From the ``first`` one on, rank r of W takes batches
first + r, first + W + r, …; so ``first`` alone says what was served, whatever the number of ranks
was before and will be.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.errors import UsageError
from pipeline.loader.permutation import Numbers, Permutation

AT_ONCE = 8192  # places that are permuted together: one by one they take ten times as long


@dataclass(frozen=True)
class Order:
    """The batches of every epoch.

    Attributes:
        examples: how many there are.
        batch_size: examples in a batch.
        shuffle: whether each epoch has a permutation of its own; else the order is the stored one.
        seed: of the permutations.
        drop_last: whether a smaller last batch is left out.
    """

    examples: int
    batch_size: int
    shuffle: bool
    seed: int
    drop_last: bool

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise UsageError(f"batch_size={self.batch_size}: expected at least 1")
        if not 0 <= self.seed < 1 << 63:
            raise UsageError(f"seed={self.seed}: expected 0 to 2^63 - 1")

    @property
    def batches(self) -> int:
        """Batches of an epoch, all ranks together."""
        whole, rest = divmod(self.examples, self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def places(self, epoch: int, first: int, stop: int) -> Numbers:
        """The examples at the places ``[first, stop)`` of an epoch, (stop - first,) int64."""
        wanted = np.arange(first, min(stop, self.examples))
        if not self.shuffle:
            return wanted
        return Permutation(self.examples, (self.seed, epoch))(wanted)


@dataclass(frozen=True)
class Ranks:
    """Which of the batches are this process's: ``rank`` of ``world``.

    Every rank gets equally many. Where the batches that are left can't be shared out equally,
    ``drop`` leaves out the rest; else the ranks that lack one take the epoch's first batches again.
    """

    rank: int
    world: int
    drop: bool

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise UsageError(f"rank={self.rank}: expected 0 to world_size - 1 = {self.world - 1}")

    def rounds(self, batches: int, first: int) -> int:
        """How many batches each rank gets from the ``first`` one on."""
        left = max(batches - first, 0)
        return left // self.world if self.drop else -(-left // self.world)

    def numbers(self, batches: int, first: int) -> Iterator[int]:
        """The numbers of this rank's batches from the ``first`` one on."""
        for turn in range(self.rounds(batches, first)):
            yield (first + turn * self.world + self.rank) % batches


def index_batches(order: Order, ranks: Ranks, epoch: int, first: int) -> Iterator[Numbers]:
    """This rank's batches of an epoch as indices, from batch ``first`` on."""
    size = order.batch_size
    block = max(1, AT_ONCE // size)  # batches permuted together
    held, begin = np.empty(0, np.int64), -1
    for number in ranks.numbers(order.batches, first):
        if number // block != begin:
            begin = number // block
            held = order.places(epoch, begin * block * size, (begin + 1) * block * size)
        at = number % block * size
        yield held[at : at + size]


def check_same(wanted: dict[str, Any], found: Any) -> None:
    """Raise UsageError unless a state was saved by a loader of the same order.

    The number of workers and of ranks may be another one.
    """
    if not isinstance(found, dict):
        raise UsageError(f"the state of a loader: expected its order, got {found!r}")
    for name, value in wanted.items():
        if found.get(name) != value:
            raise UsageError(
                f"{name}={value}: the state was saved with {name}={found.get(name)}, "
                "and means other batches; take that, or begin the epoch anew"
            )
