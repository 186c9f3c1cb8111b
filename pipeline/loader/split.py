"""``open_dataset`` and ``Split``: a sealed dataset's split as a torch map-style ``Dataset``."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.dataset import Sealed, open_sealed
from pipeline.errors import DatasetError, unknown_name
from pipeline.shard import Shard, read_shard

Item = dict[str, Any]
Batch = dict[str, Any]
Indices = Sequence[int] | npt.NDArray[np.int64]


def open_dataset(where: str | Path, normalize: bool = False, key: bool = False) -> "Dataset":
    """Open a sealed dataset.

    Args:
        where: the directory that ``shardwell prepare`` named.
        normalize: subtract the mean and divide by the standard deviation of train, per bin.
        key: give every example's key, too.

    Raises:
        DatasetError: not a sealed dataset, or a damaged one.
    """
    return Dataset(open_sealed(Path(where)), normalize, key)


class Dataset(Mapping[str, "Split"]):
    """The splits of a sealed dataset by name.

    Attributes:
        sealed: what ``dataset.json`` says.
        info: the whole of ``dataset.json``.
    """

    def __init__(self, sealed: Sealed, normalize: bool, key: bool) -> None:
        self.sealed = sealed
        self.info = sealed.info
        self._options = normalize, key

    def __getitem__(self, split: str) -> "Split":
        if split not in self.sealed.splits:
            raise unknown_name(f"split of {self.sealed.folder}", split, self.sealed.splits)
        return Split(self.sealed, split, *self._options)

    def get(self, split: str, default: Any = None) -> Any:
        """The split, or ``default`` where the dataset has none of that name."""
        return self[split] if split in self.sealed.splits else default

    def __contains__(self, split: object) -> bool:
        return split in self.sealed.splits

    def __iter__(self) -> Iterator[str]:
        return iter(self.sealed.splits)

    def __len__(self) -> int:
        return len(self.sealed.splits)


class Split(torch.utils.data.Dataset[Item]):
    """One split. ``split[i]`` is a dict: ``features``, ``lengths`` and every label.

    Files are opened when first read, once per process; a ``Split`` can be pickled and forked.
    """

    def __init__(self, sealed: Sealed, name: str, normalize: bool, key: bool) -> None:
        self.sealed = sealed
        self.name = name
        self._key = key
        self._ends = np.cumsum([shard.rows for shard in sealed.splits[name]], dtype=np.int64)
        self._shards: dict[int, Shard] = {}
        self._moments = _mean_and_scale(sealed) if normalize else None

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the class labels, by label; a label's value is an index into its names."""
        return self.sealed.classes

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_shards": {}}

    def __getitem__(self, index: int) -> Item:
        """One example.

        ``features`` is a tensor that views the mapped file where the stored type is the served one
        (float32 and int64), else a converted copy; ``lengths`` its first dimension.
        """
        (place,) = self._places([index])
        shard, row = self._shard(int(place[0])), int(place[1])
        features = self._served(shard.features(row))
        item: Item = {"features": torch.from_numpy(features), "lengths": len(features)}
        for name, column in shard.labels.items():
            item[name] = column[row].as_py()
        return item | ({"key": shard.keys[row].as_py()} if self._key else {})

    def __getitems__(self, indices: Indices) -> list[Item]:
        """Several examples for torch's own ``DataLoader``: their features view one gathered batch.

        ``make_loader`` takes the batch itself, which saves taking it apart and collating it again.
        """
        batch = self.batch(indices)
        rows = range(len(batch["lengths"]))
        items = [{name: column[i] for name, column in batch.items()} for i in rows]
        for item in items:
            item["features"] = item["features"][: item["lengths"]]
        return items

    def batch(self, indices: Indices) -> Batch:
        """The examples at ``indices``, in their order, padded with zeros at the end.

        Returns:
            ``features`` (B, T, …) float32 (int64 for tokens), ``lengths`` (B,) int64, class and
            integer labels (B,) int64, float labels (B,) float32, text labels a list of B texts.

        Raises:
            IndexError: an index outside -len to len - 1.
        """
        places = self._places(indices)
        shards = [self._shard(int(number)) for number, _ in places]
        rows = [int(row) for _, row in places]
        examples = [shard.features(row) for shard, row in zip(shards, rows, strict=True)]
        lengths = torch.tensor([len(e) for e in examples], dtype=torch.int64)
        batch: Batch = {"features": self._padded(examples), "lengths": lengths}
        for name, kind in self.sealed.columns.labels.items():
            column = [s.labels[name][r].as_py() for s, r in zip(shards, rows, strict=True)]
            dtype = torch.float32 if kind == "float" else torch.int64
            batch[name] = column if kind == "text" else torch.tensor(column, dtype=dtype)
        if self._key:
            batch["key"] = [s.keys[r].as_py() for s, r in zip(shards, rows, strict=True)]
        return batch

    def _places(self, indices: Indices) -> npt.NDArray[np.int64]:
        """(n, 2): the shard's number and the row in it, of every index."""
        wanted = np.asarray(indices, np.int64).reshape(-1)
        outside = (wanted < -len(self)) | (wanted >= len(self))
        if outside.any():
            raise IndexError(f"{self.name}[{wanted[outside][0]}]: there are {len(self)} examples")
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        numbers = np.searchsorted(self._ends, wanted, side="right")
        firsts = np.concatenate([[0], self._ends])[numbers]
        return np.stack([numbers, wanted - firsts], axis=1)

    def _shard(self, number: int) -> Shard:
        if number not in self._shards:
            info = self.sealed.splits[self.name][number]
            path = self.sealed.folder / f"{info.shard}.arrow"
            shard = read_shard(path, self.sealed.columns)
            if len(shard) != info.rows:
                raise DatasetError(f"{path}: expected {info.rows} rows, got {len(shard)}")
            self._shards[number] = shard
        return self._shards[number]

    def _padded(self, examples: Sequence[npt.NDArray[Any]]) -> torch.Tensor:
        longest = max((len(e) for e in examples), default=0)
        inner = tuple(width or 0 for width in self.sealed.columns.shape[1:])
        out = np.zeros((len(examples), longest, *inner), self._dtype)
        for row, example in zip(out, examples, strict=True):
            row[: len(example)] = self._served(example)
        return torch.from_numpy(out)

    @property
    def _dtype(self) -> type[np.int64] | type[np.float32]:
        return np.int64 if self.sealed.columns.dtype == "int64" else np.float32

    def _served(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Stored values as they are served: integers scaled to float32, normalised if asked."""
        step = self.sealed.feature.step
        if stored.dtype == np.int64:
            return stored
        values: npt.NDArray[np.float32] = stored.astype(np.float32, copy=False)
        if step != 1.0:
            values = values * np.float32(step)
        if self._moments is None:
            return values
        mean, factor = self._moments
        return (values - mean) * factor


def _mean_and_scale(
    sealed: Sealed,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Mean and 1/std of train as served, (bins,) float32 each; a constant bin is not scaled."""
    statistics = sealed.info["statistics"]
    if statistics["mean"] is None:
        raise DatasetError(f"{sealed.folder}: {sealed.feature.kind} have no mean to normalise by")
    mean = np.array(statistics["mean"]) * sealed.feature.step
    std = np.array(statistics["std"]) * sealed.feature.step
    factor = np.where(std > 0, 1 / np.where(std > 0, std, 1), 1)
    return mean.astype(np.float32), factor.astype(np.float32)
