"""``Spectrogram``, ``LogMel`` and ``Mfcc``: what speech models are trained on.

Each is a frozen dataclass with every parameter that decides its values, in samples, hertz and
decibels; ``apply`` computes a batch. The front end ``torchaudio`` gives what
``torchaudio.transforms`` of version 2.11 give for one clip: centred frames with reflected edges, a
periodic Hann window, power spectrum, HTK mel filters of height 1, decibels over a floor of 1e-10
and 80 dB below the clip's peak, orthonormal DCT-II.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from pipeline.errors import ClipError, FeatureError
from pipeline.features.mel import dct_matrix, mel_filters
from pipeline.features.stft import Floats, decibels, frame_count, power_spectrum

FRONT_ENDS = ("torchaudio",)
SPECTROGRAM_VALUES = ("power", "magnitude", "db")


@dataclass(frozen=True)
class Spectrogram:
    """Power, magnitude or decibel spectrogram: (frames, 1 + n_fft // 2) per clip."""

    kind: ClassVar[str] = "spectrogram"
    version: ClassVar[int] = 1
    dtype: ClassVar[str] = "float32"
    scale: ClassVar[float] = 1.0

    sample_rate: int
    n_fft: int
    win_length: int
    hop_length: int
    values: str = "power"
    top_db: float | None = 80.0
    front_end: str = "torchaudio"

    def __post_init__(self) -> None:
        _check_analysis(self)
        _one_of(self, "values", self.values, SPECTROGRAM_VALUES)

    @classmethod
    def at(cls, sample_rate: int) -> Self:
        """The usual analysis of speech at that rate in Hz: 25 ms windows every 10 ms."""
        return cls(sample_rate, *speech_windows(sample_rate))

    def shape(self, n_samples: int | None) -> tuple[int | None, ...]:
        """(frames, bins) of a clip of that many samples; ``None`` where the length is open."""
        return _frames(self, n_samples), 1 + self.n_fft // 2

    def apply(self, samples: Floats) -> Floats:
        """(batch, n) float32 samples in [-1, 1] → (batch, frames, bins) float32."""
        power = _power(self, samples)
        if self.values == "db":
            return decibels(power, self.top_db)
        return np.sqrt(power) if self.values == "magnitude" else power


@dataclass(frozen=True)
class LogMel:
    """Mel spectrogram in decibels: (frames, n_mels) per clip."""

    kind: ClassVar[str] = "log_mel"
    version: ClassVar[int] = 1
    dtype: ClassVar[str] = "float32"
    scale: ClassVar[float] = 1.0

    sample_rate: int
    n_fft: int
    win_length: int
    hop_length: int
    n_mels: int = 64
    f_min: float = 0.0
    f_max: float | None = None
    top_db: float | None = 80.0
    front_end: str = "torchaudio"

    def __post_init__(self) -> None:
        _check_analysis(self)
        _check_mels(self)

    @classmethod
    def at(cls, sample_rate: int) -> Self:
        """The usual analysis of speech at that rate in Hz: 25 ms windows every 10 ms."""
        return cls(sample_rate, *speech_windows(sample_rate))

    def shape(self, n_samples: int | None) -> tuple[int | None, ...]:
        """(frames, n_mels) of a clip of that many samples; ``None`` where the length is open."""
        return _frames(self, n_samples), self.n_mels

    def apply(self, samples: Floats) -> Floats:
        """(batch, n) float32 samples in [-1, 1] → (batch, frames, n_mels) float32 in dB."""
        return decibels(_power(self, samples) @ _filters(self), self.top_db)


@dataclass(frozen=True)
class Mfcc:
    """Mel-frequency cepstral coefficients: (frames, n_mfcc) per clip."""

    kind: ClassVar[str] = "mfcc"
    version: ClassVar[int] = 1
    dtype: ClassVar[str] = "float32"
    scale: ClassVar[float] = 1.0

    sample_rate: int
    n_fft: int
    win_length: int
    hop_length: int
    n_mfcc: int = 40
    n_mels: int = 64
    f_min: float = 0.0
    f_max: float | None = None
    top_db: float | None = 80.0
    front_end: str = "torchaudio"

    def __post_init__(self) -> None:
        _check_analysis(self)
        _check_mels(self)
        if not 1 <= self.n_mfcc <= self.n_mels:
            raise FeatureError(
                f"mfcc: n_mfcc={self.n_mfcc}: expected 1 to n_mels={self.n_mels} coefficients"
            )

    @classmethod
    def at(cls, sample_rate: int) -> Self:
        """The usual analysis of speech at that rate in Hz: 25 ms windows every 10 ms."""
        return cls(sample_rate, *speech_windows(sample_rate))

    def shape(self, n_samples: int | None) -> tuple[int | None, ...]:
        """(frames, n_mfcc) of a clip of that many samples; ``None`` where the length is open."""
        return _frames(self, n_samples), self.n_mfcc

    def apply(self, samples: Floats) -> Floats:
        """(batch, n) float32 samples in [-1, 1] → (batch, frames, n_mfcc) float32."""
        log_mel = decibels(_power(self, samples) @ _filters(self), self.top_db)
        return log_mel @ dct_matrix(self.n_mels, self.n_mfcc)


Spectral = Spectrogram | LogMel | Mfcc


def speech_windows(sample_rate: int) -> tuple[int, int, int]:
    """``(n_fft, win_length, hop_length)`` in samples for 25 ms windows every 10 ms.

    n_fft is the window's length raised to a product of 2, 3 and 5, which FFTs are fast at:
    16,000 Hz gives (400, 400, 160), 22,050 Hz (576, 551, 220).
    """
    win_length = sample_rate // 40
    n_fft = max(win_length, 2)
    while not _is_smooth(n_fft):
        n_fft += 1
    return n_fft, max(win_length, 1), max(sample_rate // 100, 1)


def _is_smooth(n: int) -> bool:
    """Whether n is even and has no prime factor above 5."""
    even = n % 2 == 0
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return even and n == 1


def _frames(spec: Spectral, n_samples: int | None) -> int | None:
    return None if n_samples is None else frame_count(n_samples, spec.hop_length)


def _power(spec: Spectral, samples: Floats) -> Floats:
    """The power spectrogram of a batch, after the check that the clips are long enough."""
    shortest = spec.n_fft // 2 + 1
    if samples.shape[1] < shortest:
        raise ClipError(
            f"{samples.shape[1]} samples are too few for {spec.kind} at n_fft={spec.n_fft}: "
            f"expected at least {shortest}"
        )
    return power_spectrum(samples, spec.n_fft, spec.win_length, spec.hop_length)


def _filters(spec: LogMel | Mfcc) -> Floats:
    top = spec.sample_rate / 2 if spec.f_max is None else spec.f_max
    return mel_filters(spec.sample_rate, spec.n_fft, spec.n_mels, spec.f_min, top)


def _one_of(spec: Spectral, name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise FeatureError(f"{spec.kind}: {name}={value}: expected one of {', '.join(known)}")


def _check_analysis(spec: Spectral) -> None:
    """Raise FeatureError unless rate, window, hop and floor make sense together."""
    _one_of(spec, "front_end", spec.front_end, FRONT_ENDS)
    bounds = (
        ("sample_rate", spec.sample_rate, spec.sample_rate >= 1, "at least 1 Hz"),
        ("hop_length", spec.hop_length, spec.hop_length >= 1, "at least 1 sample"),
        ("win_length", spec.win_length, spec.win_length >= 1, "at least 1 sample"),
        (
            "n_fft",
            spec.n_fft,
            spec.n_fft >= max(spec.win_length, 2),
            f"win_length={spec.win_length} or more",
        ),
        (
            "top_db",
            spec.top_db,
            spec.top_db is None or spec.top_db > 0,
            "a positive number of dB, or none",
        ),
    )
    for name, value, holds, expected in bounds:
        if not holds:
            raise FeatureError(f"{spec.kind}: {name}={value}: expected {expected}")


def _check_mels(spec: LogMel | Mfcc) -> None:
    """Raise FeatureError unless the filters fit between 0 Hz and half the sample rate."""
    nyquist = spec.sample_rate / 2
    top = nyquist if spec.f_max is None else spec.f_max
    if spec.n_mels < 1:
        raise FeatureError(f"{spec.kind}: n_mels={spec.n_mels}: expected at least 1")
    if not 0 <= spec.f_min < top:
        raise FeatureError(f"{spec.kind}: f_min={spec.f_min}: expected 0 to below f_max={top} Hz")
    if top > nyquist:
        raise FeatureError(
            f"{spec.kind}: f_max={top}: expected at most {nyquist} Hz, half the sample rate"
        )
    _filters(spec)
