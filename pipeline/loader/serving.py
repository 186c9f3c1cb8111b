"""Stored values as they are served: float32 (or int64), scaled, normalised if asked."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.dataset import Sealed
from pipeline.errors import DatasetError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Serving:
    """How features become what training sees.

    Attributes:
        step: what one step of a stored integer is worth.
        mean, factor: (bins,) float32, of train as served; None where nothing is normalised.
    """

    step: float
    mean: Floats | None = None
    factor: Floats | None = None

    def changes_nothing(self, dtype: str) -> bool:
        """Whether values stored in this type are served as they are."""
        plain = self.step == 1.0 and self.mean is None
        return dtype == "int64" or (dtype == "float32" and plain)

    def __call__(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(…, bins) stored → served; the very array where nothing is to be done."""
        if stored.dtype == np.int64:
            return stored
        values: Floats = stored.astype(np.float32, copy=False)
        if self.step != 1.0:
            values = values * np.float32(self.step)
        if self.mean is None or self.factor is None:
            return values
        return (values - self.mean) * self.factor


def serving(sealed: Sealed, normalize: bool) -> Serving:
    """As the dataset's features are served.

    Raises:
        DatasetError: they have no mean to normalise by.
    """
    step = sealed.feature.step
    if not normalize:
        return Serving(step)
    statistics = sealed.info["statistics"]
    if statistics["mean"] is None:
        raise DatasetError(f"{sealed.folder}: {sealed.feature.kind} have no mean to normalise by")
    mean, std = np.array(statistics["mean"]) * step, np.array(statistics["std"]) * step
    factor = np.where(std > 0, 1 / np.where(std > 0, std, 1), 1)  # a constant bin is not scaled
    return Serving(step, mean.astype(np.float32), factor.astype(np.float32))
