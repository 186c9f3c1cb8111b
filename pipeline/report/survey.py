"""One walk through all shards: what is known of every clip, and the mean of every group.

Shards are mapped one after the other and read in pieces; what stays is a few numbers, the key and
the labels of each clip.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from pipeline.columns import view
from pipeline.dataset import Sealed, target_of
from pipeline.features import Tokens, Waveform
from pipeline.report.measures import LENGTH, length_of, measured
from pipeline.report.wild import tame, tamed
from pipeline.rows import Array, Rows, pieces
from pipeline.shard import Shard, read_shard

NOISE = "noise"
FRAMES = 48  # of the mean of a group's spectra
SPEAKER, TEXT = "speaker", "text"

Floats = npt.NDArray[np.float32]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Survey:
    """Every clip of a dataset, splits one after the other, rows in their order.

    Attributes:
        names: of the splits.
        splits: (n,) the number of each clip's split.
        places: (n, 2) its shard in the split and its row in that.
        labels: by name: (n,) numbers, or a list of n texts; none of token ids.
        measures: by name, the length among them, (n,) each, in the units that people read.
        profiles: (n, p) what stands for a clip.
        wild: (n,) whether a clip has values out of range, which are cut off in all that follows.
        sounds: (n,) equal numbers for equal features; the number of the first such clip.
        groups: (n,) the number of each clip's class, else of its split; -1 for none.
        group_names: of the groups.
        means: group → mean features (frames, bins); none for samples and tokens.
    """

    sealed: Sealed
    names: tuple[str, ...]
    splits: Numbers
    places: Numbers
    keys: list[str]
    labels: Mapping[str, Array | list[str]]
    measures: Mapping[str, Floats]
    profiles: Floats
    wild: npt.NDArray[np.bool_]
    sounds: Numbers
    groups: Numbers
    group_names: tuple[str, ...]
    means: Mapping[int, Array]

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def regular(self) -> npt.NDArray[np.bool_]:
        """(n,) whether a clip is an example, not a recording of noise."""
        noise = self.names.index(NOISE) if NOISE in self.names else -1
        regular: npt.NDArray[np.bool_] = self.splits != noise
        return regular

    def counts(self, name: str) -> Numbers:
        """Examples of every class of a label in every split: (classes, splits)."""
        classes = np.asarray(self.labels[name])
        table = np.zeros((len(self.sealed.classes[name]), len(self.names)), np.int64)
        known = classes >= 0  # noise has none
        np.add.at(table, (classes[known], self.splits[known]), 1)
        return table

    def label(self, name: str, clip: int) -> str:
        """A clip's label for people; "" where it has none."""
        value: Any = self.labels[name][clip]
        if name in self.sealed.classes:
            return self.sealed.classes[name][value] if value >= 0 else ""
        return f"{value:g}" if isinstance(value, np.floating) else str(value)

    def features(self, clip: int) -> Array:
        """A clip's features as stored, wild values cut off."""
        shard, row = self.places[clip].tolist()
        info = self.sealed.splits[self.names[self.splits[clip]]][shard]
        path = self.sealed.folder / f"{info.shard}.arrow"
        return tame(read_shard(path, self.sealed.columns).features(row))


def together(clips: Numbers, values: Numbers) -> list[Numbers]:
    """The clips in runs, one for each of their ``values``, which all clips have."""
    if not len(clips):
        return []
    ordered = clips[np.argsort(values[clips], kind="stable")]
    return np.split(ordered, np.flatnonzero(np.diff(values[ordered])) + 1)


def transcript_of(sealed: Sealed) -> str | None:
    """The label that says what is spoken: the recipe's hint, or the one of that name."""
    texts = [name for name, kind in sealed.columns.labels.items() if kind == "text"]
    hinted = sealed.info["hints"].get("target")
    return hinted if hinted in texts else TEXT if TEXT in texts else None


def survey(sealed: Sealed, tick: Callable[[int], object]) -> Survey:
    """Walk through a sealed dataset; ``tick`` is called with the bytes of every shard read.

    Raises:
        DatasetError: a shard is damaged.
    """
    walk = _Walk(sealed)
    for split, infos in sealed.splits.items():
        for number, info in enumerate(infos):
            shard = read_shard(sealed.folder / f"{info.shard}.arrow", sealed.columns)
            walk.add(split, number, shard)
            tick(info.bytes)
    return walk.end()


class _Walk:
    """What has been seen so far."""

    def __init__(self, sealed: Sealed) -> None:
        self.sealed, self.target = sealed, target_of(sealed)
        self.names = tuple(sealed.splits)
        # Token ids say again what a text says.
        self.kinds = {n: kind for n, kind in sealed.columns.labels.items() if kind != "characters"}
        classes = sealed.classes[self.target] if self.target else ()
        self.group_names = classes if self.target else self.names
        self.scale = length_of(sealed.feature)[1]
        self.numbers: dict[str, list[Array]] = {}
        self.texts: dict[str, list[str]] = {"key": []}
        self.first: dict[int, int] = {}  # the first clip of each hash
        self.sounds: list[int] = []
        self.sums: dict[int, Array] = {}
        self.summed = np.zeros(len(self.group_names), np.int64)

    def add(self, split: str, number: int, shard: Shard) -> None:
        """The next shard."""
        row = 0
        for stored in pieces(shard, self.sealed.columns):
            rows, wild = tamed(stored, self.sealed.feature)
            n = len(rows)
            at = np.stack([np.full(n, number), np.arange(row, row + n)], axis=1)
            groups = np.full(n, self.names.index(split))
            self._keep(splits=groups, places=at)
            for name, kind in self.kinds.items():
                if kind == "text":
                    self.texts.setdefault(name, []).extend(rows.labels[name].to_pylist())
                else:
                    self._keep(**{f"label {name}": view(rows.labels[name]).copy()})
            self.texts["key"].extend(rows.keys.to_pylist())
            if self.target:
                groups = view(rows.labels[self.target])
            found, profiles = measured(rows, self.sealed.feature)
            found = {LENGTH: (rows.lengths * self.scale).astype(np.float32), **found}
            self._keep(profiles=profiles, wild=wild, groups=groups.copy())
            self._keep(**{f"measure {name}": values for name, values in found.items()})
            self._hash(stored)
            self._sum(rows, groups)
            row += n

    def _keep(self, **columns: Array) -> None:
        for name, values in columns.items():
            self.numbers.setdefault(name, []).append(values)

    def _hash(self, rows: Rows) -> None:
        """128 bits: not two of all clips ever recorded are alike by chance."""
        values = np.ascontiguousarray(rows.values).view(np.uint8).reshape(-1).data
        size = rows.values[:1].nbytes
        ends = np.cumsum(rows.lengths) * size
        for begin, end in zip((ends - rows.lengths * size).tolist(), ends.tolist(), strict=True):
            digest = xxhash.xxh3_128_intdigest(values[begin:end])
            self.sounds.append(self.first.setdefault(digest, len(self.sounds)))

    def _sum(self, rows: Rows, groups: Array) -> None:
        """Add the clips to the sums of their groups: as many frames of each, one product."""
        if isinstance(self.sealed.feature, Waveform | Tokens) or not len(rows):
            return
        filled = (rows.lengths > 0) & (groups >= 0)
        lengths, begins = rows.lengths, np.cumsum(rows.lengths) - rows.lengths
        own = self.sealed.columns.shape[0] or FRAMES
        frames = own if rows.values.dtype == np.uint8 else min(own, FRAMES)  # images keep all
        for group in np.unique(groups[filled]).tolist():
            chosen = np.flatnonzero(filled & (groups == group))
            at = begins[chosen, None] + np.arange(frames) * lengths[chosen, None] // frames
            total = rows.values[at].sum(axis=0, dtype=np.float64)
            self.sums[group] = self.sums.get(group, 0) + total
            self.summed[group] += len(chosen)

    def end(self) -> Survey:
        """All of it."""
        columns = {name: np.concatenate(parts) for name, parts in self.numbers.items()}
        labels: dict[str, Array | list[str]] = {}
        for name, kind in self.kinds.items():
            empty = np.empty(0, np.float64 if kind == "float" else np.int64)
            labels[name] = (
                self.texts.get(name, []) if kind == "text" else columns.get(f"label {name}", empty)
            )
        measures = {
            name.removeprefix("measure "): values
            for name, values in columns.items()
            if name.startswith("measure ")
        }
        nothing = np.empty(0, np.int64)
        return Survey(
            self.sealed,
            self.names,
            columns.get("splits", nothing),
            columns.get("places", nothing.reshape(0, 2)),
            self.texts["key"],
            labels,
            measures or {LENGTH: np.empty(0, np.float32)},
            columns.get("profiles", np.empty((0, 1), np.float32)),
            columns.get("wild", np.empty(0, bool)),
            np.array(self.sounds, np.int64),
            columns.get("groups", nothing),
            self.group_names,
            {group: total / self.summed[group] for group, total in sorted(self.sums.items())},
        )
