"""Finding the examples of a batch in mapped shards, and copying them: by ``gather.c``, or by NumPy.

NumPy does it where no C compiler was at hand when shardwell was installed: the same bytes, more
slowly. Rows are numbered through all shards of a split; no Python object stands for one.
"""

import ctypes
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from pipeline.compiled import compiled

Numbers = npt.NDArray[np.int64]


class UnmappedError(LookupError):
    """A row lies in the shard of this ``number``, which is not mapped yet."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Struct(ctypes.Structure):
    _fields_ = (
        ("shards", ctypes.c_int64),
        ("ends", ctypes.c_void_p),
        ("values", ctypes.c_void_p),
        ("offsets", ctypes.c_void_p),
        ("length", ctypes.c_int64),
        ("frame", ctypes.c_int64),
    )


class Located(NamedTuple):
    """Where rows lie: addresses and lengths in frames, (n,) int64, and the greatest length."""

    addresses: torch.Tensor
    lengths: torch.Tensor
    most: int


@dataclass(frozen=True)
class Shards:
    """Where the features of a split lie; ``ends``, ``values`` and ``offsets`` are (shards,) int64.

    Attributes:
        ends: rows of all shards up to this one, and with it.
        values: addresses of the features; 0 where a shard is not mapped.
        offsets: addresses of the (rows + 1,) int32 offsets, in frames; for open lengths.
        length: of every example in frames; None where it is open.
        frame: bytes.
    """

    ends: Numbers
    values: Numbers
    offsets: Numbers
    length: int | None
    frame: int

    def locate(self, rows: Numbers) -> Located:
        """Where rows, (n,) int64 and contiguous, lie.

        Raises:
            UnmappedError: a shard must be mapped first.
            IndexError: a row is in no shard.
        """
        library = _library()
        if not library:
            return _locate(self, rows)
        addresses, lengths = _numbers(len(rows)), _numbers(len(rows))
        found = addresses.data_ptr(), lengths.data_ptr()
        most = library.locate(self._struct, rows.ctypes.data, len(rows), *found)
        if most >= 0:
            return Located(addresses, lengths, most)
        if most == -1 - len(self.ends):
            raise IndexError("a row is in no shard")
        raise UnmappedError(-1 - most)

    def pick(self, columns: Numbers, rows: Numbers) -> Numbers:
        """The 8 bytes of rows in columns, (columns, n), whose addresses are (columns, shards).

        The rows must have been located.
        """
        out = np.empty((len(columns), len(rows)), np.int64)
        library = _library()
        if library:
            places = _address(columns), len(columns), rows.ctypes.data
            library.pick(self._struct, *places, len(rows), _address(out))
            return out
        numbers, inside = places_of(self.ends, rows)
        addresses = columns[:, numbers] + 8 * inside
        for to, address in enumerate(addresses.ravel().tolist()):
            ctypes.memmove(out.ctypes.data + 8 * to, address, 8)
        return out

    def copy(self, found: Located, out: npt.NDArray[Any]) -> None:
        """The located features to the begins of ``out``'s rows, zeros behind each."""
        if not out.size:
            return
        row, begin, library = out.strides[0], _address(out), _library()
        addresses, lengths = found.addresses, found.lengths
        if library:
            places = addresses.data_ptr(), lengths.data_ptr()
            library.copy(*places, self.frame, len(addresses), begin, row)
            return
        for address, length in zip(addresses.tolist(), lengths.tolist(), strict=True):
            size = length * self.frame
            ctypes.memmove(begin, address, size)
            ctypes.memset(begin + size, 0, row - size)
            begin += row

    @cached_property
    def _struct(self) -> _Struct:
        return _Struct(
            len(self.ends),
            _address(self.ends),
            _address(self.values),
            _address(self.offsets) if self.length is None else None,
            self.length or 0,
            self.frame,
        )


def _numbers(n: int) -> torch.Tensor:
    # NumPy keeps small blocks at hand: its memory takes a sixth of the time of torch's.
    return torch.from_numpy(np.empty(n, np.int64))


def _address(array: npt.NDArray[Any]) -> int:
    # In half the time of ``array.ctypes.data``; torch warns of arrays that can't be written.
    return torch.from_numpy(array).data_ptr()


def places_of(ends: Numbers, rows: Numbers) -> tuple[Numbers, Numbers]:
    """The shard of every row, and the row in it."""
    numbers = np.searchsorted(ends, rows, side="right")
    return numbers, rows - np.concatenate([[0], ends])[numbers]


def _locate(shards: Shards, rows: Numbers) -> Located:
    """``Shards.locate`` by NumPy."""
    if rows.size and not 0 <= rows.min() <= rows.max() < shards.ends[-1:].sum():
        raise IndexError("a row is in no shard")
    numbers, inside = places_of(shards.ends, rows)
    values = shards.values[numbers]
    if not values.all():
        raise UnmappedError(int(numbers[values == 0][0]))
    if shards.length is not None:
        first, lengths = inside * shards.length, np.full(len(rows), shards.length)
    else:
        addresses = (shards.offsets[numbers] + 4 * inside).tolist()
        pairs = [(ctypes.c_int32 * 2).from_address(address)[:] for address in addresses]
        first, end = np.array(pairs, np.int64).reshape(-1, 2).T
        lengths = end - first
    found = torch.from_numpy(values + first * shards.frame), torch.from_numpy(lengths)
    return Located(*found, int(lengths.max(initial=0)))


@cache
def _library() -> ctypes.CDLL | None:
    library = compiled(Path(__file__).with_name("gather.c"), "_gather")
    if library:
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        struct = ctypes.POINTER(_Struct)
        library.locate.argtypes = [struct, pointer, number, pointer, pointer]
        library.locate.restype = number
        library.pick.argtypes = [struct, pointer, number, pointer, number, pointer]
        library.copy.argtypes = [pointer, pointer, number, number, pointer, number]
        library.pick.restype = library.copy.restype = None
    return library
