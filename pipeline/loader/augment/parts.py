"""What every augmentation needs of a batch: its features, where they are, and draws beside them."""

import torch

from pipeline.errors import UsageError
from pipeline.loader.draws import uniform
from pipeline.loader.split import Batch

BITS = 1 << 24  # what a float32 in [0, 1) holds evenly


def features_of(batch: Batch, by: str, dims: int, where: str) -> torch.Tensor:
    """The batch's features, of so many dimensions.

    Raises:
        UsageError: they are others, so the step stands in the wrong ``where``.
    """
    features: torch.Tensor = batch["features"]
    if features.ndim != dims or not features.is_floating_point():
        shape = " × ".join(map(str, features.shape))
        raise UsageError(
            f"{by}: expected {'waveforms' if dims == 2 else 'features'} (B, "
            f"{'samples' if dims == 2 else 'frames, bins'}), got {shape} {features.dtype}; "
            f"put it {where} the feature"
        )
    return features


def drawn(batch: Batch, salt: str, count: int) -> torch.Tensor:
    """``draws.uniform`` as (B, count) float32 in [0, 1), on the batch's device."""
    numbers = (uniform(batch["seeds"], salt, count) * BITS).floor() / BITS
    return numbers.float().to(batch["features"].device)


def whole(drawn: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    """Whole numbers from 0 to ``below`` - 1, int64, from numbers in [0, 1)."""
    return torch.minimum((drawn * below).long(), below - 1)


def present(batch: Batch) -> torch.Tensor:
    """Which samples or frames are an example's own, not padding: (B, T) bool."""
    features, lengths = batch["features"], batch["lengths"]
    places = torch.arange(features.shape[1], device=features.device)
    return places < lengths[:, None]  # type: ignore[no-any-return]


def check(name: str, got: object, holds: bool, expected: str) -> None:
    """Raise UsageError unless an augmentation's parameter makes sense."""
    if not holds:
        raise UsageError(f"{name}={got}: expected {expected}")
