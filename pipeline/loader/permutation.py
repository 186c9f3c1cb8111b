"""A permutation of n numbers as a function: place → number, in no memory, by a key.

A Feistel network permutes the numbers below a power of two; numbers that fall outside n are
permuted again until they fall inside (cycle walking: Black & Rogaway, Ciphers with Arbitrary Finite
Domains, 2002, section 3). The round function is the finalizer of MurmurHash3 (Appleby, 2011).
Seeded and the same on every machine; not for secrets.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
ROUNDS = 6
SMALL = 1 << 16  # up to here a table of half a megabyte; a network of few bits mixes badly
MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
SHIFT = np.uint64(33)


@dataclass(frozen=True)
class Permutation:
    """The permutation of ``range(n)`` that belongs to a key of whole numbers."""

    n: int
    key: tuple[int, ...]

    def __call__(self, places: Numbers) -> Numbers:
        """(k,) places in ``range(n)`` → the numbers that stand there, (k,) int64."""
        if self.n <= SMALL:
            return _table(self.n, self.key)[places]
        # Halves of unequal width, so that the power of two is less than twice n.
        bits = (self.n - 1).bit_length()
        right = bits // 2
        keys = _words(self.key, ROUNDS)
        numbers = _rounds(places.astype(np.uint64), bits - right, right, keys)
        outside = np.flatnonzero(numbers >= self.n)
        while len(outside):
            numbers[outside] = _rounds(numbers[outside], bits - right, right, keys)
            outside = outside[numbers[outside] >= self.n]
        return numbers.astype(np.int64)


@lru_cache(maxsize=2)
def _table(n: int, key: tuple[int, ...]) -> Numbers:
    """Numbers in the order of their hashes."""
    first, second = _words(key, 2)
    return np.argsort(mixed(mixed(np.arange(n, dtype=np.uint64) ^ first) + second), kind="stable")


def key_of(key: tuple[int, ...]) -> int:
    """64 bits, as good as random, that belong to a key of whole numbers."""
    return int(_words(key, 1)[0])


def _words(key: tuple[int, ...], count: int) -> npt.NDArray[np.uint64]:
    return np.random.SeedSequence(key).generate_state(count, np.uint64).astype(np.uint64)


def _rounds(
    numbers: npt.NDArray[np.uint64], left: int, right: int, keys: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint64]:
    """One pass of the network over numbers of ``left + right`` bits; the halves swap widths."""
    widths = (np.uint64(left), np.uint64(right))
    high, low = numbers >> widths[1], numbers & _ones(widths[1])
    for i, key in enumerate(keys):
        width = widths[i % 2]  # of the half that is changed
        high, low = low, (high ^ mixed(low ^ key)) & _ones(width)
    # After an even number of rounds the halves have their own widths again.
    return (high << widths[1]) | low


def _ones(width: np.uint64) -> np.uint64:
    return np.uint64((1 << int(width)) - 1)


def mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Every number hashed to another one; no two to the same."""
    for factor in MIX:
        values = (values ^ (values >> SHIFT)) * factor
    hashed: npt.NDArray[np.uint64] = values ^ (values >> SHIFT)
    return hashed
