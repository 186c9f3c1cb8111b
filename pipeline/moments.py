"""Per-bin mean and variance of features, computed shard by shard and merged.

Each shard gives its count, mean and sum of squared deviations; merging is the parallel update of
Chan, Golub & LeVeque (Updating Formulae and a Pairwise Algorithm for Computing Sample Variances,
1979, equation 2.1). All sums are float64, so the answer does not suffer from large means.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


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
    count, total = 0, np.zeros(bins)
    for value in values:
        flat = value.reshape(-1, bins)
        count += len(flat)
        total += flat.sum(axis=0, dtype=np.float64)
    if not count:
        return Moments(0, np.zeros(bins), np.zeros(bins))
    mean = total / count
    m2 = np.zeros(bins)
    for value in values:
        deviation = value.reshape(-1, bins) - mean
        m2 += np.einsum("fb,fb->b", deviation, deviation)
    return Moments(count, mean, m2)


def merge(parts: Iterable[Mapping[str, Any]]) -> Moments | None:
    """The moments of several shards together, from their sidecars' values in a fixed order."""
    merged: Moments | None = None
    for part in parts:
        more = Moments(part["count"], np.array(part["mean"]), np.array(part["m2"]))
        merged = more if merged is None else _merge_two(merged, more)
    return merged


def _merge_two(a: Moments, b: Moments) -> Moments:
    count = a.count + b.count
    if not count:
        return a
    delta = b.mean - a.mean
    mean = a.mean + delta * (b.count / count)
    m2 = a.m2 + b.m2 + delta**2 * (a.count * b.count / count)
    return Moments(count, mean, m2)


def mean_and_std(moments: Moments) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per bin, (bins,) each."""
    std = [math.sqrt(v / moments.count) if moments.count else 0.0 for v in moments.m2]
    return moments.mean.tolist(), std
