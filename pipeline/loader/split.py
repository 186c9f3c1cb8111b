"""``open_dataset`` and ``Split``: a sealed dataset's split as a torch map-style ``Dataset``."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.dataset import Sealed, open_sealed
from pipeline.errors import DatasetError, unknown_name
from pipeline.loader.gather import LABEL_BYTES, Mapped, Numbers, gather, gathered, texts
from pipeline.remote import bring, is_url

Item = dict[str, Any]
Batch = dict[str, Any]
Indices = Sequence[int] | npt.NDArray[np.int64]


def open_dataset(
    where: str | Path,
    normalize: bool = False,
    key: bool = False,
    cache: str | Path | None = None,
) -> "Dataset":
    """Open a sealed dataset.

    Args:
        where: the directory or the URL (``s3://…``) that ``shardwell prepare`` named.
        normalize: subtract the mean and divide by the standard deviation of train, per bin.
        key: give every example's key, too.
        cache: where the verified copy of a dataset at a URL is kept (default
            ``~/.cache/shardwell``).

    Raises:
        DatasetError: not a sealed dataset, or a damaged one.
        RemoteError: the store at the URL can't be read.
    """
    folder = bring(where, Path(cache) if cache else None) if is_url(where) else Path(where)
    return Dataset(open_sealed(folder), normalize, key)


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

    Files are mapped when first read, once per process; a ``Split`` can be pickled and forked.
    """

    def __init__(self, sealed: Sealed, name: str, normalize: bool, key: bool) -> None:
        self.sealed = sealed
        self.name = name
        self._key = key
        self._ends = np.cumsum([shard.rows for shard in sealed.splits[name]], dtype=np.int64)
        self._mapped = Mapped(sealed, name)
        self._chosen: Numbers | None = None  # rows of a part of the split, in its order
        self._moments = _mean_and_scale(sealed) if normalize else None

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the class labels, by label; a label's value is an index into its names."""
        return self.sealed.classes

    def __len__(self) -> int:
        if self._chosen is not None:
            return len(self._chosen)
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_mapped": Mapped(self.sealed, self.name)}

    def select(self, indices: Indices) -> "Split":
        """The examples at ``indices``, in their order, as a split of its own; nothing is copied.

        With ``column`` it filters: ``split.select(np.flatnonzero(split.column("word") == 3))``.

        Raises:
            IndexError: an index outside -len to len - 1.
        """
        part = copy.copy(self)
        part._chosen = self._rows(indices)
        return part

    def column(self, name: str) -> npt.NDArray[Any]:
        """``lengths``, or a label that is no text, of every example: (len,) int64 or float64.

        Reads one number of every example; the shards are mapped for it.

        Raises:
            UnknownNameError: there is no such column.
        """
        kinds = self.sealed.columns.labels
        if name != "lengths" and kinds.get(name, "text") == "text":
            known = ["lengths", *(n for n, kind in kinds.items() if kind != "text")]
            raise unknown_name(f"column of {self.name}", name, known)
        numbers, rows = self._places(np.arange(len(self)))
        return (
            self._lengths(numbers, rows)[0]
            if name == "lengths"
            else self._label(name, numbers, rows)
        )

    def __getitem__(self, index: int) -> Item:
        """One example.

        ``features`` is a tensor that views the mapped file where the stored type is the served one
        (float32 and int64), else a converted copy; ``lengths`` its first dimension.
        """
        numbers, rows = self._places([index])
        shard, row = self._mapped.shard(int(numbers[0])), int(rows[0])
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
        numbers, rows = self._places(indices)
        lengths, begins = self._lengths(numbers, rows)
        features = self._padded(self._mapped.features[numbers] + begins, lengths)
        batch: Batch = {
            "features": torch.from_numpy(features),
            "lengths": torch.from_numpy(lengths),
        }
        for name, kind in self.sealed.columns.labels.items():
            if kind == "text":
                batch[name] = self._texts(numbers, rows, name)
                continue
            values = torch.from_numpy(self._label(name, numbers, rows))
            batch[name] = values.float() if kind == "float" else values
        if self._key:
            batch["key"] = self._texts(numbers, rows, "key")
        return batch

    def _rows(self, indices: Indices) -> Numbers:
        """Indices as rows of the whole split."""
        wanted = np.asarray(indices, np.int64).reshape(-1)
        outside = (wanted < -len(self)) | (wanted >= len(self))
        if outside.any():
            raise IndexError(f"{self.name}[{wanted[outside][0]}]: there are {len(self)} examples")
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        return wanted if self._chosen is None else self._chosen[wanted]

    def _places(self, indices: Indices) -> tuple[Numbers, Numbers]:
        """The number of its shard and the row in it, of every index; the shards are mapped."""
        wanted = self._rows(indices)
        numbers = np.searchsorted(self._ends, wanted, side="right")
        self._mapped.open(numbers)
        return numbers, wanted - np.concatenate([[0], self._ends])[numbers]

    def _lengths(self, numbers: Numbers, rows: Numbers) -> tuple[Numbers, Numbers]:
        """Of every example its length in frames, and where it begins in its shard, in bytes."""
        first, *inner = self.sealed.columns.shape
        frame = np.dtype(self.sealed.columns.dtype).itemsize * math.prod(n or 0 for n in inner)
        if first is not None:
            return np.full(len(rows), first, np.int64), rows * (first * frame)
        offsets = gathered(self._mapped.offsets[numbers] + 4 * rows, 2, "int32").astype(np.int64)
        return offsets[:, 1] - offsets[:, 0], offsets[:, 0] * frame

    def _label(self, name: str, numbers: Numbers, rows: Numbers) -> npt.NDArray[Any]:
        dtype = "float64" if self.sealed.columns.labels[name] == "float" else "int64"
        return gathered(self._mapped.labels[name][numbers] + LABEL_BYTES * rows, 1, dtype)[:, 0]

    def _texts(self, numbers: Numbers, rows: Numbers, column: str) -> list[str]:
        shards = [self._mapped.shard(number) for number in numbers.tolist()]
        return texts(shards, rows.tolist(), column)

    def _padded(self, addresses: Numbers, lengths: Numbers) -> npt.NDArray[Any]:
        """(B, T, …) as served, zeros behind each example."""
        columns = self.sealed.columns
        inner = tuple(width or 0 for width in columns.shape[1:])
        out = np.empty((len(lengths), int(lengths.max(initial=0)), *inner), columns.dtype)
        gather(addresses, lengths * (out.itemsize * math.prod(inner)), out)
        served = self._served(out)
        if self._moments is not None:  # of zeros it made something else
            for row in np.flatnonzero(lengths < out.shape[1]).tolist():
                served[row, lengths[row] :] = 0
        return served

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
