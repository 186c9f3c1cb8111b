"""``Members``: the index of an archive, name → (offset, size), kept as a file beside it.

The index is sorted by name and held as columns, not as one object per member: an archive of ten
million clips costs what its names cost.
"""

import os
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.archive.tar import Scan
from pipeline.columns import numbers, strings, view
from pipeline.errors import ArchiveError
from pipeline.files import written

Numbers = npt.NDArray[np.int64]
BLOCK = 1024  # names held as Python texts at a time


class Members(Mapping[str, tuple[int, int]]):
    """An archive's regular members, sorted by name: name → (offset, size) in its plain file."""

    def __init__(self, names: pa.Array, offsets: Numbers, sizes: Numbers) -> None:
        self.names, self.offsets, self.sizes = names, offsets, sizes
        self._near: dict[str, int] = {}  # the block of names that was asked for last

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[str]:
        for begin in range(0, len(self), BLOCK):
            yield from self.names[begin : begin + BLOCK].to_pylist()

    def __getitem__(self, name: str) -> tuple[int, int]:
        row = self._near.get(name)
        if row is None:  # who goes through an archive in order finds the next in the same block
            begin = self._search(name) // BLOCK * BLOCK
            names = self.names[begin : begin + BLOCK].to_pylist()
            self._near = dict(zip(names, range(begin, len(self)), strict=False))
            row = self._near[name]
        return int(self.offsets[row]), int(self.sizes[row])

    def _search(self, name: str) -> int:
        """The first place whose name is not before ``name``."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.names[middle].as_py() < name:
                low = middle + 1
            else:
                high = middle
        return low


def of_scan(scan: Scan) -> Members:
    """The members of a finished scan.

    Raises:
        ArchiveError: a name stands twice.
    """
    order = sorted(range(len(scan.names)), key=scan.names.__getitem__)
    names = [scan.names[i] for i in order]
    for before, name in pairwise(names):
        if before == name:
            raise ArchiveError(f"member {name} stands twice: which is meant?")
    rows = np.array(order, np.int64)
    offsets, sizes = np.array(scan.offsets, np.int64), np.array(scan.sizes, np.int64)
    return Members(strings(names), offsets[rows], sizes[rows])


def save(path: Path, members: Members, note: Mapping[str, str]) -> None:
    """Write an index, whole or not at all, with a note about the file that it is of."""
    columns = [members.names, numbers(members.offsets, "int64"), numbers(members.sizes, "int64")]
    table = pa.Table.from_arrays(columns, names=["name", "offset", "size"])
    table = table.replace_schema_metadata(dict(note))
    with (
        written(path) as temporary,
        temporary.open("wb") as out,
        pa.ipc.new_file(out, table.schema) as writer,
    ):
        writer.write_table(table, max_chunksize=max(len(members), 1))


def load(path: Path) -> tuple[Members, dict[str, str]] | None:
    """A saved index and its note; None where there is none, or a damaged one."""
    try:
        with pa.memory_map(os.fspath(path)) as mapped:
            table = pa.ipc.open_file(mapped).read_all().combine_chunks()
        names = table.column("name").combine_chunks()
        names.validate(full=True)
        offsets, sizes = (view(table.column(c).combine_chunks()) for c in ("offset", "size"))
        metadata = table.schema.metadata or {}
        note = {key.decode(): value.decode() for key, value in metadata.items()}
    except (OSError, pa.ArrowException, KeyError, UnicodeDecodeError):
        return None
    return Members(names, offsets, sizes), note
