"""Rows on their way out of a shard and back, and the hash of what they hold.

Every published format carries the same rows; only their clothes differ.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.columns import view
from pipeline.shard import Columns, Shard

Array = npt.NDArray[Any]
PIECE = 16 << 20  # bytes of features that are held at a time


@dataclass(frozen=True)
class Rows:
    """Some rows of a shard.

    Attributes:
        keys, labels: as the shard's columns.
        lengths: (n,) int64, the first dimension of every row's features.
        values: (sum of lengths, …) all features on end, of the stored type.
    """

    keys: pa.Array
    labels: Mapping[str, pa.Array]
    lengths: npt.NDArray[np.int64]
    values: Array

    def __len__(self) -> int:
        return len(self.lengths)

    def features(self) -> list[Array]:
        """One array per row, views of ``values``."""
        return np.split(self.values, np.cumsum(self.lengths)[:-1]) if len(self) else []


def pieces(shard: Shard, columns: Columns) -> Iterator[Rows]:
    """A shard's rows in order, as many at a time as have 16 MiB of features; at least one."""
    inner = tuple(width or 0 for width in columns.shape[1:])
    values = shard.values if shard.offsets is not None else shard.values.reshape(-1, *inner)
    if shard.offsets is not None:
        ends = shard.offsets.astype(np.int64)
    else:
        ends = np.arange(len(shard) + 1, dtype=np.int64) * (columns.shape[0] or 0)
    per_piece = PIECE // (np.dtype(columns.dtype).itemsize * max(1, math.prod(inner)))
    first = 0
    while first < len(shard):
        last = int(np.searchsorted(ends, ends[first] + per_piece, side="right")) - 1
        last = min(max(last, first + 1), len(shard))
        yield Rows(
            shard.keys[first:last],
            {name: column[first:last] for name, column in shard.labels.items()},
            np.diff(ends[first : last + 1]),
            values[ends[first] : ends[last]],
        )
        first = last


class Content:
    """The hash of keys, labels and features, the same however the rows are cut into pieces."""

    def __init__(self) -> None:
        self._columns: dict[str, Any] = {}

    def add(self, rows: Rows) -> None:
        """The next rows."""
        self._add("features", np.ascontiguousarray(rows.values))
        self._add("lengths", rows.lengths.tobytes())
        for name, column in {"key": rows.keys, **rows.labels}.items():
            if pa.types.is_string(column.type):
                lengths, text = _text(column)
                self._add(f"{name} lengths", lengths)
                self._add(name, text)
            elif pa.types.is_list(column.type):
                self._add(f"{name} lengths", np.diff(view(column.offsets)).tobytes())
                self._add(name, view(column.flatten()).tobytes())
            else:
                self._add(name, view(column).tobytes())

    def _add(self, name: str, data: bytes | Array) -> None:
        self._columns.setdefault(name, hashlib.sha256()).update(data)

    def sha256(self) -> str:
        """The hash (hex) of all rows so far."""
        lines = sorted(f"{name} {digest.hexdigest()}" for name, digest in self._columns.items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def content_of(rows: Iterable[Rows]) -> str:
    """The hash (hex) of rows in pieces."""
    content = Content()
    for piece in rows:
        content.add(piece)
    return content.sha256()


def _text(column: pa.Array) -> tuple[bytes, bytes]:
    """A text column as the lengths of its texts and the texts on end."""
    if not len(column):
        return b"", b""
    _, offsets, data = column.buffers()
    held = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    text = b"" if data is None else data[int(held[0]) : int(held[-1])].to_pybytes()
    return np.diff(held).tobytes(), text
