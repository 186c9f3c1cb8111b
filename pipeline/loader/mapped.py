"""The shards of a split: mapped when first asked for, checked before an address is made of them."""

import math
import threading
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch

from pipeline.columns import view
from pipeline.dataset import Sealed
from pipeline.errors import DatasetError
from pipeline.loader.gather import Located, Numbers, Shards, UnmappedError, places_of
from pipeline.records import ShardInfo
from pipeline.shard import Shard, read_shard

Held = Callable[[ShardInfo], AbstractContextManager[Path]]


class Mapped:
    """What a process has mapped of a split.

    ``held`` gives a shard's file, which stays there for as long as the block lasts; where it is
    None, files lie in the dataset's folder.

    Attributes:
        shards: where the features lie.
    """

    def __init__(self, sealed: Sealed, split: str, held: Held | None = None) -> None:
        self._sealed, self._split, self._held = sealed, split, held
        self._infos = sealed.splits[split]
        count = len(self._infos)
        ends = np.cumsum([info.rows for info in self._infos], dtype=np.int64)
        length, *inner = sealed.columns.shape
        frame = np.dtype(sealed.columns.dtype).itemsize * math.prod(n or 0 for n in inner)
        labels = sealed.columns.labels.items()
        self._kinds = [(name, kind) for name, kind in labels if kind not in ("text", "characters")]
        values, offsets, *numbers = np.zeros((2 + len(self._kinds), count), np.int64)
        columns = np.array(numbers, np.int64).reshape(len(self._kinds), count)
        self.shards = Shards(ends, values, offsets, columns, length, frame)
        self._open: dict[int, Shard] = {}
        self._mapping = threading.Lock()

    def __reduce__(self) -> tuple[type["Mapped"], tuple[Sealed, str, Held | None]]:
        return Mapped, (self._sealed, self._split, self._held)  # another process maps anew

    def shard(self, number: int) -> Shard:
        """One shard, mapped if it was not.

        Raises:
            DatasetError: it is damaged, or not the one that ``dataset.json`` names.
        """
        if number not in self._open:
            self._map(number)
        return self._open[number]

    def keep(self, numbers: Collection[int]) -> None:
        """Unmap all shards but these; a map ends with the last array that views it."""
        for number in self._open.keys() - set(numbers):
            self.shards.values[number] = 0
            del self._open[number]

    def locate(self, rows: Numbers) -> Located:
        """``Shards.locate``; the rows' shards are mapped for it."""
        while True:
            try:
                return self.shards.locate(rows)
            except UnmappedError as missing:
                self._map(missing.number)

    def labels(self, found: Located) -> dict[str, torch.Tensor]:
        """Every label that is a number of located rows: (n,) int64 or float64."""
        return {
            name: values.view(torch.float64) if kind == "float" else values
            for (name, kind), values in zip(self._kinds, found.values, strict=True)
        }

    def texts(self, name: str, rows: Numbers) -> list[str]:
        """A text label, or ``"key"``, of some rows."""
        numbers, inside = places_of(self.shards.ends, rows)
        shards = map(self.shard, numbers.tolist())
        columns = (shard.keys if name == "key" else shard.labels[name] for shard in shards)
        return [column[row].as_py() for column, row in zip(columns, inside.tolist(), strict=True)]

    def tokens(self, name: str, rows: Numbers) -> tuple[torch.Tensor, torch.Tensor]:
        """A label of characters of some rows: (n, T) int64, zeros behind each, and (n,) lengths."""
        numbers, inside = places_of(self.shards.ends, rows)
        shards = map(self.shard, numbers.tolist())
        places = zip(shards, inside.tolist(), strict=True)
        found = [view(shard.labels[name][row].values) for shard, row in places]
        lengths = torch.tensor([len(tokens) for tokens in found], dtype=torch.int64)
        padded = np.zeros((len(found), max(map(len, found), default=0)), np.int64)
        for row, tokens in zip(padded, found, strict=True):
            row[: len(tokens)] = tokens
        return torch.from_numpy(padded), lengths

    def _map(self, number: int) -> None:
        with self._mapping:  # an address that another thread has taken must stay what it was
            if number not in self._open:
                self._open[number] = self._checked(number)

    def _checked(self, number: int) -> Shard:
        info = self._infos[number]
        path = self._sealed.folder / f"{info.shard}.arrow"
        with self._held(info) if self._held else nullcontext(path) as path:
            shard = read_shard(path, self._sealed.columns)
        if len(shard) != info.rows:
            raise DatasetError(f"{path}: expected {info.rows} rows, got {len(shard)}")
        if shard.offsets is not None:
            self.shards.offsets[number] = shard.offsets.ctypes.data
        for addresses, (name, _) in zip(self.shards.numbers, self._kinds, strict=True):
            addresses[number] = view(shard.labels[name]).ctypes.data
        self.shards.values[number] = shard.values.ctypes.data
        return shard
