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
        ("columns", ctypes.c_int64),
        ("numbers", ctypes.c_void_p),
    )


class Located(NamedTuple):
    """Where rows lie, and their numbers; tensors are (n,) int64.

    ``values`` are the 8 bytes of each column of numbers, whatever these stand for.
    """

    most: int  # the greatest length
    addresses: torch.Tensor
    lengths: torch.Tensor  # in frames
    values: tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Shards:
    """Where the columns of a split lie.

    Attributes:
        ends: (shards,) int64, rows of all shards up to this one, and with it.
        values: (shards,) int64, addresses of the features; 0 where a shard is not mapped.
        offsets: (shards,) int64, addresses of the (rows + 1,) int32 offsets, in frames; for open
            lengths.
        numbers: (columns, shards) int64, addresses of columns with 8 bytes a row.
        length: of every example in frames; None where it is open.
        frame: bytes.
    """

    ends: Numbers
    values: Numbers
    offsets: Numbers
    numbers: Numbers
    length: int | None
    frame: int

    def locate(self, rows: Numbers) -> Located:
        """Where rows, (n,) int64 in one block of memory, lie.

        Raises:
            UnmappedError: a shard must be mapped first.
            IndexError: a row is in no shard.
        """
        n, library = len(rows), _library()
        if not library:
            return _locate(self, rows)
        # What was copied last has emptied the processor's caches: few calls matter, not few bytes.
        addresses = torch.from_numpy(np.empty(n, np.int64))
        found = torch.from_numpy(np.empty((1 + len(self.numbers), n), np.int64))
        places = addresses.data_ptr(), found.data_ptr()
        most = library.locate(self._struct, _address(rows), n, *places)
        if most >= 0:
            lengths, *values = found.unbind()
            return Located(most, addresses, lengths, tuple(values))
        if most == -1 - len(self.ends):
            raise IndexError("a row is in no shard")
        raise UnmappedError(-1 - most)

    def copy(self, found: Located, out: npt.NDArray[Any]) -> None:
        """The located features to the begins of ``out``'s rows, zeros behind each."""
        if not out.size:
            return
        row, begin, library = out.strides[0], _address(out), _library()
        addresses, lengths = found.addresses, found.lengths
        if library:
            places = addresses.data_ptr(), lengths.data_ptr()
            threads = torch.get_num_threads()
            library.copy(*places, self.frame, len(addresses), begin, row, threads)
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
            len(self.numbers),
            _address(self.numbers),
        )


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
        first, end = _read(shards.offsets[numbers] + 4 * inside, "int32", 2).astype(np.int64).T
        lengths = end - first
    columns = [_read(column[numbers] + 8 * inside, "int64", 1)[:, 0] for column in shards.numbers]
    addresses, *rest = map(torch.from_numpy, (values + first * shards.frame, lengths, *columns))
    return Located(int(lengths.max(initial=0)), addresses, rest[0], tuple(rest[1:]))


def _read(addresses: Numbers, dtype: str, width: int) -> npt.NDArray[Any]:
    """``width`` values from every address: (n, width)."""
    out = np.empty((len(addresses), width), dtype)
    for row, address in zip(out, addresses.tolist(), strict=True):
        ctypes.memmove(row.ctypes.data, address, row.nbytes)
    return out


@cache
def _library() -> ctypes.CDLL | None:
    library = compiled(Path(__file__).with_name("gather.c"), "_gather")
    if library:
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        library.locate.argtypes = [ctypes.POINTER(_Struct), pointer, number, pointer, pointer]
        library.locate.restype = number
        library.copy.argtypes = [pointer, pointer, number, number, pointer, number, number]
        library.copy.restype = None
    return library
