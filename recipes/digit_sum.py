"""Digit sum: sequences whose target is the sum of their first two digits.

A sequence of L digits begins with one of the 100 pairs of digits; the rest are zeros, but for one
random place that holds a random digit. The longer the sequence, the longer a recurrent network must
remember the pair. One line of text per sequence: digits joined by spaces, a tab, the sum.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.audio import Audio
from pipeline.errors import RecipeError
from pipeline.recipe import Corpus, Recipe
from pipeline.records import Example, Piece

TUTORIAL_LENGTHS = (5, 10, 15, 20, 25, 30, 35)
TUTORIAL_REPEATS = {"train": 3, "validation": 1, "test": 1}
DIGITS = 10

Draw = Callable[[int, int], int]


def tutorial(path: Path) -> None:
    """Write the tutorial's 21 files as one, drawn as the tutorial draws them.

    NumPy's legacy generator, seeded once with 0, is drawn from in the order lengths 5 to 35, train,
    validation, test, pair by pair.
    """
    rng = np.random.RandomState(0)
    with path.open("w", encoding="ascii", newline="\n") as out:
        for length in TUTORIAL_LENGTHS:
            for repeats in TUTORIAL_REPEATS.values():
                out.writelines(_lines(length, repeats, rng.randint))


def free(path: Path, length: int, k: int, seed: int) -> None:
    """Write train (each pair ``k`` times), validation and test (once) of one length."""
    if length < 3:
        raise RecipeError(f"digit_sum: length={length}: expected at least 3 digits")
    if k < 1:
        raise RecipeError(f"digit_sum: k={k}: expected at least 1")
    if seed < 0:
        raise RecipeError(f"digit_sum: seed={seed}: expected 0 or more")
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="ascii", newline="\n") as out:
        for repeats in (k, 1, 1):
            out.writelines(_lines(length, repeats, lambda low, high: int(rng.integers(low, high))))


def _lines(length: int, repeats: int, draw: Draw) -> Iterator[str]:
    for first in range(DIGITS):
        for second in range(DIGITS):
            for _ in range(repeats):
                place, digit = draw(2, length), draw(0, DIGITS)
                digits = [first, second] + [0] * (length - 2)
                digits[place] = digit
                yield " ".join(map(str, digits)) + f"\t{first + second}\n"


def examples(
    corpus: Corpus,
    lengths: Sequence[int] = (),
    length: int = 0,
    k: int = 0,
    seed: int = 0,
) -> Iterator[Example]:
    """The lines of the wanted lengths, in place; ``length``, ``k``, ``seed`` are ``free``'s."""
    repeats = {"train": k, "validation": 1, "test": 1} if length else TUTORIAL_REPEATS
    wanted = set(lengths) or {length}
    offset = 0
    for drawn in (length,) if length else TUTORIAL_LENGTHS:
        for split, times in repeats.items():
            for row in range(DIGITS * DIGITS * times):
                # The pair, and so the sum and the line's size, follow from the row's number.
                total = sum(divmod(row // times, DIGITS))
                size = 2 * drawn + len(str(total)) + 1
                if drawn in wanted:
                    ref = corpus.slice("sequences", offset, size)
                    yield Example(f"{drawn}-{split}-{row:04d}", split, (ref,), {"sum": total})
                offset += size
    if offset != corpus.size("sequences"):
        raise RecipeError(f"digit_sum: expected {offset} bytes, got {corpus.size('sequences')}")


def load(pieces: Sequence[Piece], audio: Audio | None) -> npt.NDArray[Any]:
    """A line's digits → (length,) int64 in 0..9."""
    digits = bytes(pieces[0].data).partition(b"\t")[0].split()
    return np.array(digits, dtype=np.int64)


RECIPE = Recipe(
    name="digit_sum",
    version=1,
    labels={"sum": "class"},
    features=("tokens",),
    examples=examples,
    load=load,
    generators={"tutorial": tutorial, "free": free},
    hints={"target": "sum", "model": "recurrent"},
)
