"""``Split``: a sealed dataset's split as a torch map-style ``Dataset``."""

import hashlib
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import torch

from pipeline.characters import Alphabet
from pipeline.dataset import Sealed
from pipeline.errors import UsageError, unknown_name
from pipeline.loader.filtering import named, wanted_values
from pipeline.loader.gather import Located, Numbers, places_of
from pipeline.loader.mapped import Held, Mapped
from pipeline.loader.serving import serving

Item = dict[str, Any]
Batch = dict[str, Any]
Indices = Sequence[int] | npt.NDArray[Any]
Column = npt.NDArray[Any]


class Split(torch.utils.data.Dataset[Item]):
    """One split. ``split[i]`` is a dict: ``features``, ``lengths`` and every label.

    Files are mapped when first read, once per process; a ``Split`` can be pickled and forked.
    """

    def __init__(
        self,
        sealed: Sealed,
        name: str,
        normalize: bool,
        key: bool,
        labels: Sequence[str],
        held: Held | None = None,
    ) -> None:
        self.sealed = sealed
        self.name = name
        self._labels = {label: sealed.columns.labels[label] for label in labels}
        self._texts = [label for label, kind in self._labels.items() if kind == "text"]
        self._texts += ["key"] if key else []
        self._spelt = [label for label, kind in self._labels.items() if kind == "characters"]
        self._inner = tuple(width or 0 for width in sealed.columns.shape[1:])
        self._mapped = Mapped(sealed, name, held)
        self._chosen: Numbers | None = None  # rows of a part of the split, in its order
        self._serving = serving(sealed, normalize)
        self._as_stored = self._serving.changes_nothing(sealed.columns.dtype)

    @property
    def classes(self) -> Mapping[str, tuple[str, ...]]:
        """The names of the class labels, by label; a label's value is an index into its names, -1
        for none (in the split ``noise``).
        """
        return self.sealed.classes

    @property
    def alphabets(self) -> Mapping[str, Alphabet]:
        """The alphabets of the labels that are characters, by label: to encode and decode with."""
        return self.sealed.alphabets

    @property
    def normalized(self) -> bool:
        """Whether examples are served with the mean of train subtracted."""
        return self._serving.mean is not None

    @property
    def identity(self) -> str:
        """16 hex digits that stand for exactly these examples in this order."""
        digest = hashlib.sha256()
        for shard in self.sealed.splits[self.name]:
            digest.update(shard.sha256.encode())
        if self._chosen is not None:
            digest.update(self._chosen.tobytes())
        return digest.hexdigest()[:16]

    def __len__(self) -> int:
        if self._chosen is not None:
            return len(self._chosen)
        return self.sealed.rows(self.name)

    def select(self, indices: Indices) -> "Split":
        """The examples at ``indices``, in their order, as a split of its own; nothing is copied.

        A bool for every example takes those where it is True.

        Raises:
            IndexError: an index outside -len to len - 1.
            UsageError: something else than whole numbers or such bools.
        """
        part = Split.__new__(Split)
        part.__dict__ |= self.__dict__ | {"_chosen": self._rows(indices)}  # the maps are shared
        return part

    def filter(self, column: str, keep: Collection[Any] | Callable[[Column], Column]) -> "Split":
        """The examples whose label or length is wanted, as a split of its own; nothing is copied.

        ``split.filter("word", ["yes", "no"])``, ``split.filter("lengths", lambda n: n < 500)``.

        Args:
            column: ``"lengths"``, ``"key"`` or a label.
            keep: the wanted values (names, for a class), or a function of all of them together,
                an array (len,) (of names, for a class), that gives a bool for each.

        Raises:
            UnknownNameError: there is no such column or class.
            UsageError: ``keep`` made something else than a bool for each example.
        """
        values, names = self.column(column), self.classes.get(column)
        if names:
            values = named(names, values)
        if callable(keep):
            mask = np.asarray(keep(values))
            if mask.dtype != bool or mask.shape != values.shape:
                raise UsageError(
                    f"filter by {column}: expected {len(values)} bools, "
                    f"got {mask.dtype} of shape {mask.shape}"
                )
            return self.select(mask)
        return self.select(np.isin(values, wanted_values(column, keep, names, values.dtype)))

    def column(self, name: str) -> Column:
        """``lengths``, ``key`` or a label of every example: (len,) int64, float64 or StringDType.

        No features are read; the shards are mapped for it.

        Raises:
            UnknownNameError: there is no such column.
            UsageError: it holds token ids, which are no single values.
        """
        kinds = {"lengths": "lengths", "key": "text"} | dict(self.sealed.columns.labels)
        if name not in kinds:
            raise unknown_name(f"column of {self.name}", name, kinds)
        if kinds[name] == "characters":
            raise UsageError(
                f"column {name} of {self.name}: expected single values, it holds token ids; "
                "batch(indices) gives them padded"
            )
        rows = self._rows(np.arange(len(self)))
        if kinds[name] == "text":
            return np.array(self._mapped.texts(name, rows), np.dtypes.StringDType())
        found = self._mapped.locate(rows)
        column = found.lengths if name == "lengths" else self._mapped.labels(found)[name]
        return column.numpy().copy()  # alone: it lies in one block with the others

    def lengths(self, indices: Indices) -> Numbers:
        """The lengths in frames of some examples, (n,) int64."""
        lengths: Numbers = self._located(indices)[1].lengths.numpy()
        return lengths

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> "Split": ...
    def __getitem__(self, index: int | slice) -> "Item | Split":
        """One example, or a slice as a split of its own.

        ``features`` is a tensor of its own, ``lengths`` its first dimension.
        """
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        try:
            wanted = operator.index(index)
        except TypeError:
            message = f"{self.name}[{index!r}]: expected a number; select() takes several"
            raise UsageError(message) from None
        numbers, rows = places_of(self._mapped.shards.ends, self._rows([wanted]))
        shard, row = self._mapped.shard(int(numbers[0])), int(rows[0])
        features = self._serving(shard.features(row).copy())
        item: Item = {"features": torch.from_numpy(features), "lengths": len(features)}
        for name in self._labels:
            item[name] = shard.labels[name][row].as_py()
        for name in self._spelt:
            item |= {name: torch.tensor(item[name]).long(), f"{name}_lengths": len(item[name])}
        return item | ({"key": shard.keys[row].as_py()} if "key" in self._texts else {})

    def __getitems__(self, indices: Indices) -> list[Item]:
        """Several examples for torch's own ``DataLoader``: their features view one gathered batch.

        ``make_loader`` takes the batch itself, which saves taking it apart and collating it again.
        """
        batch = self.batch(indices)
        rows = range(len(batch["lengths"]))
        items = [{name: column[i] for name, column in batch.items()} for i in rows]
        for item in items:
            item["features"] = item["features"][: item["lengths"]]
            for name in self._spelt:
                item[name] = item[name][: item[f"{name}_lengths"]]
        return items

    def batch(self, indices: Indices) -> Batch:
        """The examples at ``indices``, in their order, padded with zeros at the end.

        Returns:
            ``features`` (B, T, …) float32 (int64 for tokens), ``lengths`` (B,) int64, class and
            integer labels (B,) int64, float labels (B,) float32, text labels a list of B texts.
            A label of characters, as ``tokens``, is (B, T) int64, zeros behind each, with
            ``tokens_lengths`` (B,) int64; token i + 1 is character i of its alphabet.

        Raises:
            IndexError: an index outside -len to len - 1.
        """
        rows, found = self._located(indices)
        columns = self.sealed.columns
        stored = np.empty((len(rows), found.most, *self._inner), columns.dtype)
        self._mapped.shards.copy(found, stored)
        served = stored if self._as_stored else self._served(stored, found)
        batch: Batch = {"features": torch.from_numpy(served), "lengths": found.lengths}
        for name, values in self._mapped.labels(found).items():
            if name in self._labels:
                batch[name] = values.float() if values.is_floating_point() else values
        for name in self._texts:
            batch[name] = self._mapped.texts(name, rows)
        for name in self._spelt:
            batch[name], batch[f"{name}_lengths"] = self._mapped.tokens(name, rows)
        return batch

    def keep_mapped(self, shards: Collection[int]) -> None:
        """Unmap all shards but those of these numbers."""
        self._mapped.keep(shards)

    def to_hf(self) -> Any:
        """The split as a ``datasets.Dataset`` that views the mapped shards: see ``as_hf``."""
        from pipeline.loader.hf import as_hf

        if self.normalized:
            raise UsageError("to_hf gives features as stored: open with normalize=False")
        shards = map(self._mapped.shard, range(len(self.sealed.splits[self.name])))
        names = [*self._labels, *(["key"] if "key" in self._texts else [])]
        whole = as_hf(self.sealed, self.name, [shard.batch for shard in shards], names)
        return whole if self._chosen is None else whole.select(self._chosen)

    def _rows(self, indices: Indices) -> Numbers:
        """Indices as rows of the whole split; negative ones count from the end."""
        given, n = np.asarray(indices), len(self)
        mask = given.dtype == bool and given.shape == (n,)
        wanted = np.flatnonzero(given) if mask else _whole(indices)
        if wanted is None:
            raise UsageError(
                f"indices of {self.name}: expected whole numbers or {n} bools, "
                f"got {given.dtype} of shape {given.shape}"
            )
        # Before they become int64: numbers that don't fit would wrap to others that do.
        low, high = (int(wanted.min()), int(wanted.max())) if wanted.size else (0, -1)
        if low < -n or high >= n:
            raise IndexError(f"{self.name}[{high if high >= n else low}]: there are {n} examples")
        wanted = wanted.astype(np.int64).reshape(-1)
        wanted = np.where(wanted < 0, wanted + n, wanted)
        return wanted if self._chosen is None else self._chosen[wanted]

    def _located(self, indices: Indices) -> tuple[Numbers, Located]:
        """The rows of indices, and where they lie; rows of the split itself take no detour."""
        if self._chosen is None and isinstance(indices, np.ndarray):
            plain = indices.dtype == np.int64 and indices.ndim == 1 and indices.flags.carray
            try:
                if plain:
                    return indices, self._mapped.locate(indices)
            except IndexError:
                pass
        rows = self._rows(indices)
        return rows, self._mapped.locate(rows)

    def _served(self, stored: Column, found: Located) -> Column:
        """(B, T, …) as served, zeros behind each example."""
        served = self._serving(stored)
        if self._serving.mean is not None:  # of zeros it made something else
            for row, length in zip(served, found.lengths.tolist(), strict=True):
                row[length:] = 0
        return served


def _whole(indices: Indices) -> Column | None:
    """Indices as an array of whole numbers; None where they are something else."""
    found = np.asarray(indices)
    if not found.size or np.issubdtype(found.dtype, np.integer):
        return found
    # Of whole numbers above 2^63 NumPy makes floats, or objects.
    given = np.asarray(indices, object)
    return given if all(type(i) is not bool and isinstance(i, int) for i in given.flat) else None
