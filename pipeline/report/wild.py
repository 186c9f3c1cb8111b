"""Values that no preparation makes, as damaged files and samples of another scale hold them.

They are told, and then cut off: a single one of them would make every sum, mean and picture that it
enters infinite.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pipeline.features import Feature, Waveform
from pipeline.report.measures import per_clip
from pipeline.rows import Array, Rows

MOST = 1e9  # what any value may be: no power spectrum comes near it, its square is a float32
LOUDEST = 10.0  # times full scale: decoders and filters overshoot by far less

Bools = npt.NDArray[np.bool_]


def tamed(rows: Rows, feature: Feature) -> tuple[Rows, Bools]:
    """The rows with nothing that sums can't bear, and (n,) which have values out of range."""
    limit = LOUDEST if isinstance(feature, Waveform) else MOST
    if not _beyond(rows.values, limit):
        return rows, np.zeros(len(rows), bool)
    held = np.abs(rows.values.astype(np.float32, copy=False).reshape(len(rows.values), -1))
    each = np.logical_not((held <= limit).all(axis=1))  # what is no number is never within
    return replace(rows, values=tame(rows.values)), per_clip(np.logical_or, each, rows.lengths)


def tame(values: Array) -> Array:
    """The values, zero where they are no numbers, and none beyond ``MOST``."""
    if not _beyond(values, MOST):
        return values
    held = np.nan_to_num(values.astype(np.float32), nan=0, posinf=MOST, neginf=-MOST)
    return np.clip(held, -MOST, MOST)


def _beyond(values: Array, limit: float) -> bool:
    """Whether a value is not a number or beyond the limit; two quick passes, no copy."""
    if values.dtype.kind != "f" or not values.size:
        return False
    return not (-limit <= float(values.min()) and float(values.max()) <= limit)
