"""``Waveform``, ``Pixels``, ``Vector`` and ``Tokens``: data that is stored as it comes."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from pipeline.errors import ClipError, FeatureError

WAVEFORM_DTYPES = ("int16", "float32")


@dataclass(frozen=True)
class Waveform:
    """The samples themselves: (n_samples,) per clip.

    ``dtype="int16"`` stores 16-bit recordings at half the size and without loss; it refuses samples
    that are not exact multiples of 1/32768. The loader gives float32 in [-1, 1] in both cases.
    """

    kind: ClassVar[str] = "waveform"
    version: ClassVar[int] = 1
    bins: ClassVar[int] = 1

    sample_rate: int
    dtype: str = "int16"

    def __post_init__(self) -> None:
        if self.sample_rate < 1:
            raise FeatureError(f"sample_rate={self.sample_rate}: expected at least 1 Hz")
        if self.dtype not in WAVEFORM_DTYPES:
            known = ", ".join(WAVEFORM_DTYPES)
            raise FeatureError(f"dtype={self.dtype}: expected one of {known}")

    @classmethod
    def at(cls, sample_rate: int, dtype: str = "int16") -> Self:
        """The waveform at that rate in Hz."""
        return cls(sample_rate, dtype)

    @property
    def step(self) -> float:
        """What a stored value is multiplied with to give samples in [-1, 1]."""
        return 1 / 32768 if self.dtype == "int16" else 1.0

    def shape(self, n_samples: int | None) -> tuple[int | None, ...]:
        """(n_samples,)"""
        return (n_samples,)

    def apply(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """(batch, n) float32 samples in [-1, 1] → (batch, n) of the stored type."""
        if not np.isfinite(samples).all():
            raise ClipError("the clip holds NaN or infinite samples")
        if self.dtype == "float32":
            return samples
        steps = samples * np.float32(32768)
        exact = np.rint(steps)
        inside = exact.min(initial=0) >= -32768 and exact.max(initial=0) <= 32767
        if not inside or not np.array_equal(steps, exact):
            raise ClipError(
                "samples are not exactly 16-bit: store them with waveform:dtype=float32"
            )
        stored: npt.NDArray[Any] = exact.astype(np.int16)
        return stored


@dataclass(frozen=True)
class Pixels:
    """Grey images as they are: (height, width) uint8; the loader gives float32 in [0, 1].

    To a recurrent network an image is ``height`` rows of ``width`` pixels.
    """

    kind: ClassVar[str] = "pixels"
    version: ClassVar[int] = 1
    dtype: ClassVar[str] = "uint8"
    step: ClassVar[float] = 1 / 255
    bins: ClassVar[int] = 1

    height: int = 28
    width: int = 28

    def __post_init__(self) -> None:
        for name in ("height", "width"):
            if not 1 <= getattr(self, name) < 1 << 16:
                raise FeatureError(f"{name}={getattr(self, name)}: expected 1 to 65535 pixels")

    def shape(self, n_samples: int | None) -> tuple[int | None, ...]:
        """(height, width)"""
        return self.height, self.width

    def apply(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(batch, height, width) uint8, unchanged."""
        if images.shape[1:] != (self.height, self.width):
            raise ClipError(
                f"expected an image of {self.height}×{self.width} pixels, "
                f"got {'×'.join(map(str, images.shape[1:]))}"
            )
        return images


@dataclass(frozen=True)
class Vector:
    """Grey images as one run of pixels, row after row: (height·width,), else as ``Pixels``."""

    kind: ClassVar[str] = "vector"
    version: ClassVar[int] = 1
    dtype: ClassVar[str] = "uint8"
    step: ClassVar[float] = 1 / 255
    bins: ClassVar[int] = 1

    height: int = 28
    width: int = 28

    def __post_init__(self) -> None:
        Pixels(self.height, self.width)  # refuses what makes no sense

    def shape(self, n_samples: int | None) -> tuple[int | None, ...]:
        """(height·width,)"""
        return (self.height * self.width,)

    def apply(self, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(batch, height, width) uint8 → (batch, height·width), the same memory."""
        return Pixels(self.height, self.width).apply(images).reshape(len(images), -1)


@dataclass(frozen=True)
class Tokens:
    """A sequence of token ids in [0, vocabulary): (length,) int64."""

    kind: ClassVar[str] = "tokens"
    version: ClassVar[int] = 1
    dtype: ClassVar[str] = "int64"
    step: ClassVar[float] = 1.0
    bins: ClassVar[int] = 0

    vocabulary: int = 10

    def __post_init__(self) -> None:
        if self.vocabulary < 1:
            raise FeatureError(f"vocabulary={self.vocabulary}: expected at least 1")

    def shape(self, n_samples: int | None) -> tuple[int | None, ...]:
        """(length,), open"""
        return (None,)

    def apply(self, tokens: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(batch, length) ids, checked to lie in [0, vocabulary)."""
        if tokens.min(initial=0) < 0 or tokens.max(initial=0) >= self.vocabulary:
            raise ClipError(
                f"expected token ids 0 to {self.vocabulary - 1}, "
                f"got {tokens.min()} to {tokens.max()}"
            )
        return tokens.astype(np.int64)
