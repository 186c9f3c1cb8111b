"""Counts for the card: lengths and classes, per split, from the shards' own columns."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.columns import view
from pipeline.features import Pixels, Tokens, Vector, Waveform
from pipeline.publish.config import Config
from pipeline.shard import read_shard


@dataclass(frozen=True)
class Summary:
    """What the splits of a config hold.

    Attributes:
        unit: what lengths are told in.
        lengths: split → the smallest, mean and largest length.
        classes: label → class → examples in each split.
    """

    unit: str
    lengths: Mapping[str, str]
    classes: Mapping[str, Mapping[str, tuple[int, ...]]]


def summary(config: Config) -> Summary:
    """Count a config's examples; features themselves are not read."""
    sealed = config.sealed
    lengths: dict[str, str] = {}
    counts = {
        name: np.zeros((len(c), len(config.splits)), int) for name, c in sealed.classes.items()
    }
    rate = sealed.feature.sample_rate if isinstance(sealed.feature, Waveform) else None
    for column, split in enumerate(config.splits):
        found = [np.empty(0, np.int64)]
        for info in sealed.splits[split]:
            shard = read_shard(sealed.folder / f"{info.shard}.arrow", sealed.columns)
            fixed = sealed.columns.shape[0] or 0
            found.append(
                np.full(len(shard), fixed) if shard.offsets is None else np.diff(shard.offsets)
            )
            for name, table in counts.items():
                classes = view(shard.labels[name])  # noise has none: -1
                table[:, column] += np.bincount(classes[classes >= 0], minlength=len(table))
        lengths[split] = _span(np.concatenate(found) / (rate or 1), rate is not None)
    units = {Waveform: "seconds", Pixels: "lines", Tokens: "tokens", Vector: "values"}
    named = {
        name: {c: tuple(map(int, row)) for c, row in zip(sealed.classes[name], table, strict=True)}
        for name, table in counts.items()
    }
    return Summary(units.get(type(sealed.feature), "frames"), lengths, named)


def _span(values: "np.ndarray[tuple[int], np.dtype[np.float64]]", precise: bool) -> str:
    if not len(values):
        return "none"
    digits = 2 if precise else 0
    low, mean, high = (f"{v:,.{digits}f}" for v in (values.min(), values.mean(), values.max()))
    return low if low == high else f"{low} to {high}, mean {mean}"
