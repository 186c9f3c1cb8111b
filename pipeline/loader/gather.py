"""A batch as one gather: where examples lie in the mapped shards, and their bytes in one block.

Everything is arithmetic on addresses, no Python object stands for an example. An address is only
ever made of a shard whose header, footer and offsets were checked when it was opened.
"""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.columns import view
from pipeline.dataset import Sealed
from pipeline.errors import DatasetError
from pipeline.shard import Shard, read_shard

Numbers = npt.NDArray[np.int64]
LABEL_BYTES = 8  # int64 and float64


class Mapped:
    """The shards of a split: mapped when first asked for, and where their columns begin.

    Attributes:
        features, offsets: (shards,) addresses of the values, and of the (rows + 1,) int32 offsets
            of features of open length.
        labels: name → (shards,) addresses of the values of numbers and classes.
    """

    def __init__(self, sealed: Sealed, split: str) -> None:
        count = len(sealed.splits[split])
        self.features, self.offsets = np.zeros(count, np.int64), np.zeros(count, np.int64)
        kinds = sealed.columns.labels.items()
        self.labels = {name: np.zeros(count, np.int64) for name, kind in kinds if kind != "text"}
        self._sealed, self._infos = sealed, sealed.splits[split]
        self._opened = np.zeros(count, bool)
        self._shards: dict[int, Shard] = {}

    def shard(self, number: int) -> Shard:
        """One shard.

        Raises:
            DatasetError: it is damaged, or not the one that ``dataset.json`` names.
        """
        if not self._opened[number]:
            self._open(number)
        return self._shards[number]

    def open(self, numbers: Numbers) -> None:
        """Map the shards that are not mapped yet."""
        closed = numbers[~self._opened[numbers]]
        for number in np.unique(closed).tolist():
            self._open(number)

    def _open(self, number: int) -> None:
        info = self._infos[number]
        path = self._sealed.folder / f"{info.shard}.arrow"
        shard = read_shard(path, self._sealed.columns)
        if len(shard) != info.rows:
            raise DatasetError(f"{path}: expected {info.rows} rows, got {len(shard)}")
        self.features[number] = shard.values.ctypes.data
        if shard.offsets is not None:
            _check(shard.offsets, len(shard.values), str(path))
            self.offsets[number] = shard.offsets.ctypes.data
        for name, addresses in self.labels.items():
            addresses[number] = view(shard.labels[name]).ctypes.data
        self._shards[number] = shard
        self._opened[number] = True


def _check(offsets: npt.NDArray[np.int32], values: int, path: str) -> None:
    if offsets[0] < 0 or offsets[-1] > values or (offsets[1:] < offsets[:-1]).any():
        raise DatasetError(f"{path}: damaged offsets of its features; prepare the dataset again")


def gather(addresses: Numbers, sizes: Numbers, out: npt.NDArray[Any]) -> None:
    """Copy ``sizes[i]`` bytes from ``addresses[i]`` to the begin of ``out[i]``, zeros behind."""
    row = out[:1].nbytes
    begin = out.ctypes.data
    for i, (address, size) in enumerate(zip(addresses.tolist(), sizes.tolist(), strict=True)):
        ctypes.memmove(begin + i * row, address, size)
        ctypes.memset(begin + i * row + size, 0, row - size)


def gathered(addresses: Numbers, width: int, dtype: str) -> npt.NDArray[Any]:
    """``width`` values of a type from every address: (n, width)."""
    out = np.empty((len(addresses), width), dtype)
    gather(addresses, np.full(len(addresses), out[:1].nbytes), out)
    return out


def texts(shards: Sequence[Shard], rows: Sequence[int], column: str) -> list[str]:
    """A text label, or the key, of some rows."""
    arrays: list[pa.Array] = [s.keys if column == "key" else s.labels[column] for s in shards]
    return [array[row].as_py() for array, row in zip(arrays, rows, strict=True)]
