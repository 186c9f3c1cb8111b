"""What follows the spectrum: logarithms, differences in time, normalisation per clip."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import FeatureError

Values = npt.NDArray[np.floating[Any]]  # float32, or float64 until they are stored

BASES = ("db", "ln", "log10")
NORMALIZE = ("none", "mean", "mean_variance")
DELTA_WIDTH = 2  # frames to either side
STD_FLOOR = 1e-5


@dataclass(frozen=True)
class Log:
    """The logarithm of energies: (log(max(x, floor)), at least peak - top, + shift) · factor.

    Attributes:
        base: ``db`` is 10·log10.
        floor: smallest energy.
        top: values further below the clip's peak are raised to it; None raises none.
        shift, factor: as Whisper's (x + 4) / 4.
    """

    base: str = "db"
    floor: float = 1e-10
    top: float | None = 80.0
    shift: float = 0.0
    factor: float = 1.0

    def __post_init__(self) -> None:
        if self.base not in BASES:
            raise FeatureError(f"base={self.base}: expected one of {', '.join(BASES)}")
        if not 1e-37 <= self.floor <= 1e37:
            raise FeatureError(f"floor={self.floor}: expected 1e-37 to 1e37, what float32 holds")
        if self.top is not None and not 0 < self.top < np.inf:
            raise FeatureError(f"top={self.top}: expected a positive range below the peak, or none")
        for name in ("shift", "factor"):
            if not np.isfinite(getattr(self, name)):
                raise FeatureError(f"{name}={getattr(self, name)}: expected a number")

    def apply(self, energies: Values) -> Values:
        """(batch, frames, bins) → the same shape; the argument is used up."""
        np.maximum(energies, energies.dtype.type(self.floor), out=energies)
        (np.log if self.base == "ln" else np.log10)(energies, out=energies)
        if self.base == "db":
            energies *= 10
        if self.top is not None:
            peak = energies.max(axis=(1, 2), keepdims=True)
            np.maximum(energies, peak - energies.dtype.type(self.top), out=energies)
        if self.shift:
            energies += self.shift
        if self.factor != 1:
            energies *= self.factor
        return energies


def with_deltas(features: Values, order: int) -> Values:
    """(batch, frames, bins) → (batch, frames, bins·(1 + order)): differences in time behind.

    d[t] = Σ n·(c[t+n] - c[t-n]) / (2 Σ n²), n = 1, 2, the ends repeated (HTK Book, equation 5.16;
    ``torchaudio.functional.compute_deltas``); order 2 adds the differences of the differences.
    """
    parts = [features]
    for _ in range(order):
        parts.append(_delta(parts[-1]))
    return np.concatenate(parts, axis=2) if order else features


def _delta(features: Values) -> Values:
    frames = features.shape[1]
    ends = ((0, 0), (DELTA_WIDTH, DELTA_WIDTH), (0, 0))
    wide = np.pad(features, ends, mode="edge")
    total: Values = np.zeros_like(features)
    for n in range(1, DELTA_WIDTH + 1):
        after = wide[:, DELTA_WIDTH + n : DELTA_WIDTH + n + frames]
        before = wide[:, DELTA_WIDTH - n : DELTA_WIDTH - n + frames]
        total += n * (after - before)
    weight = 2 * sum(n * n for n in range(1, DELTA_WIDTH + 1))
    total *= 1 / weight
    return total


def normalized(features: Values, how: str) -> Values:
    """(batch, frames, bins): each clip's bins to mean 0 and, for ``mean_variance``, variance 1."""
    if how == "none":
        return features
    centred: Values = features - features.mean(axis=1, keepdims=True, dtype=np.float64).astype(
        np.float32
    )
    if how == "mean":
        return centred
    std = np.sqrt(np.square(centred).mean(axis=1, keepdims=True, dtype=np.float64))
    result: Values = centred / np.maximum(std, STD_FLOOR).astype(features.dtype)
    return result
