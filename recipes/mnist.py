"""MNIST: 28×28 grey images of handwritten digits, read in place from the four IDX files.

An IDX file is big-endian: two zero bytes, a type byte (8 = uint8), the number of dimensions, each
dimension as a 32-bit count, then the values (http://yann.lecun.com/exdb/mnist/).
"""

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.audio import Audio
from pipeline.errors import ClipError, RecipeError
from pipeline.recipe import Corpus, Recipe
from pipeline.records import Example, Piece

SIDE = 28
UINT8 = 8


def examples(corpus: Corpus, validation: int) -> Iterator[Example]:
    """Images in the order of the files; the last ``validation`` of train become validation."""
    for part in ("train", "test"):
        images, at = _open_idx(corpus, f"{part}-images", (SIDE, SIDE))
        labels, labels_at = _open_idx(corpus, f"{part}-labels", ())
        if images != labels:
            raise RecipeError(f"mnist {part}: {images} images, but {labels} labels")
        digits = corpus.read(corpus.slice(f"{part}-labels", labels_at, labels))
        if not 0 <= validation < images:
            raise RecipeError(f"mnist: validation={validation}: expected 0 to {images - 1} images")
        for i, digit in enumerate(digits):
            held_out = part == "train" and i >= images - validation
            yield Example(
                key=f"{part}-{i:05d}",
                split="validation" if held_out else part,
                refs=(corpus.slice(f"{part}-images", at + i * SIDE * SIDE, SIDE * SIDE),),
                labels={"digit": digit},
            )


def load(pieces: Sequence[Piece], audio: Audio | None) -> npt.NDArray[Any]:
    """One image's bytes → (28, 28) uint8."""
    image = np.frombuffer(pieces[0].data, np.uint8)
    if image.size != SIDE * SIDE:
        raise ClipError(f"expected {SIDE * SIDE} bytes, got {image.size}")
    return image.reshape(SIDE, SIDE)


def _open_idx(corpus: Corpus, role: str, item: tuple[int, ...]) -> tuple[int, int]:
    """Check an IDX header; the number of items and the offset of the first."""
    n_dims = 1 + len(item)
    at = 4 + 4 * n_dims
    head = corpus.read(corpus.slice(role, 0, min(at, corpus.size(role))))
    if len(head) < at or head[:4] != bytes([0, 0, UINT8, n_dims]):
        raise RecipeError(
            f"{role}: expected an IDX header of {n_dims} dimensions, got {head[:4].hex()}"
        )
    count, *shape = struct.unpack(f">{n_dims}I", head[4:])
    expected = at + count * math.prod(item)
    if tuple(shape) != item or corpus.size(role) != expected:
        raise RecipeError(
            f"{role}: header promises {count} items of {shape} ({expected} bytes), "
            f"got {corpus.size(role)} bytes"
        )
    return count, at


RECIPE = Recipe(
    name="mnist",
    version=1,
    labels={"digit": "class"},
    features=("pixels", "vector"),
    examples=examples,
    load=load,
    hints={"target": "digit", "model": "lstm"},
)
