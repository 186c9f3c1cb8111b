"""Per-bin mean and variance of features, computed shard by shard and merged.

Count, mean and sum of squared deviations are taken of a few thousand frames at a time and merged by
the parallel update of Chan, Golub & LeVeque (Updating Formulae and a Pairwise Algorithm for
Computing Sample Variances, 1979, equation 2.1); so are those of the shards. All sums are float64,
and the answer does not suffer from large means.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

VALUES_AT_ONCE = 1 << 16  # 512 kB of float64


@dataclass(frozen=True)
class Moments:
    """``count`` values per bin, their ``mean`` and ``m2`` = Σ(x - mean)², each (bins,) float64."""

    count: int
    mean: npt.NDArray[np.float64]
    m2: npt.NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers; ``repr`` of a float64 is exact, so nothing is lost in JSON."""
        return {"count": self.count, "mean": self.mean.tolist(), "m2": self.m2.tolist()}


def of_values(values: Sequence[npt.NDArray[Any]], bins: int) -> Moments:
    """The moments of one shard's features, each (…, bins) or, for one bin, of any shape."""
    merged = Moments(0, np.zeros(bins), np.zeros(bins))
    for block in _blocks(values, bins):
        mean = block.mean(axis=0)
        deviation = np.subtract(block, mean, out=block)
        m2 = np.einsum("fb,fb->b", deviation, deviation)
        merged = _merge_two(merged, Moments(len(block), mean, m2))
    return merged


def _blocks(values: Sequence[npt.NDArray[Any]], bins: int) -> Iterator[npt.NDArray[np.float64]]:
    """All frames in order, some thousand at a time, (n, bins): what the cache holds."""
    waiting: list[npt.NDArray[Any]] = []
    held = 0
    for value in values:
        waiting.append(value.reshape(-1, bins))
        held += value.size
        if held >= VALUES_AT_ONCE:
            yield np.concatenate(waiting).astype(np.float64)
            waiting, held = [], 0
    if held:
        yield np.concatenate(waiting).astype(np.float64)


def merge(parts: Iterable[Mapping[str, Any]]) -> Moments | None:
    """The moments of several shards together, from their sidecars' values in a fixed order."""
    merged: Moments | None = None
    for part in parts:
        more = Moments(part["count"], np.array(part["mean"]), np.array(part["m2"]))
        merged = more if merged is None else _merge_two(merged, more)
    return merged


def _merge_two(a: Moments, b: Moments) -> Moments:
    if not a.count or not b.count:
        return a if a.count else b
    count = a.count + b.count
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.count / count)
    m2 = a.m2 + b.m2 + delta**2 * (a.count * b.count / count)
    return Moments(count, mean, m2)


def mean_and_std(moments: Moments) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per bin, (bins,) each."""
    std = [math.sqrt(v / moments.count) if moments.count else 0.0 for v in moments.m2]
    return moments.mean.tolist(), std
