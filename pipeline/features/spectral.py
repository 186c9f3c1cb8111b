"""``Spectrogram``, ``LogMel`` and ``Mfcc``: what speech models are trained on.

Each is a frozen dataclass with every parameter that decides its values; ``at`` fills them in for a
front end by name, ``apply`` computes a batch. In the order of computation: samples → frames →
spectra (→ mel energies → logarithm (→ cosine transform)) → differences in time → normalisation.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, cast

import numpy as np
import numpy.typing as npt

from pipeline.errors import ClipError, FeatureError
from pipeline.features.analysis import Analysis, Floats
from pipeline.features.front_ends import changed
from pipeline.features.front_ends import front_end as front_end_named
from pipeline.features.kernel import spectra
from pipeline.features.mel import MelBank, dct_matrix, mel_filters
from pipeline.features.options import check_choices, with_options
from pipeline.features.scale import NORMALIZE, Log, Values, normalized, with_deltas

DTYPES = ("float32", "float16")
ENERGY_FLOOR = float(np.finfo(np.float32).eps)  # Kaldi's, before the logarithm of an energy


@dataclass(frozen=True)
class Finish:
    """What every kind ends with.

    Attributes:
        deltas: 1 adds differences in time to every frame, 2 the differences of those, too.
        normalize: ``mean`` or ``mean_variance`` of every bin over the clip; ``none``.
        dtype: ``float32`` or ``float16`` as stored; float16 keeps 11 bits of each value.
    """

    deltas: int = 0
    normalize: str = "none"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        check_choices(self, {"normalize": NORMALIZE, "dtype": DTYPES, "deltas": (0, 1, 2)})


@dataclass(frozen=True)
class Spectrogram:
    """Spectrogram: (frames, 1 + n_fft // 2) per clip.

    ``values`` is ``linear``: power or magnitude, as ``analysis`` says; or ``log``: its logarithm.
    """

    kind: ClassVar[str] = "spectrogram"
    version: ClassVar[int] = 1
    step: ClassVar[float] = 1.0

    sample_rate: int
    analysis: Analysis
    log: Log = field(default_factory=Log)
    values: str = "linear"
    finish: Finish = field(default_factory=Finish)
    front_end: str = "torchaudio"

    def __post_init__(self) -> None:
        if self.values not in ("linear", "log"):
            raise FeatureError(f"values={self.values}: expected one of linear, log")
        if self.values == "log" and self.log.base == "db" and self.analysis.magnitude:
            raise FeatureError(
                "values=log,base=db: expected magnitude=false: decibels are of power"
            )
        _check_rate(self.sample_rate)

    @classmethod
    def at(cls, sample_rate: int, front_end: str = "torchaudio", **options: Any) -> Self:
        """The front end's definition at a rate in Hz, with ``options`` changed."""
        _check_rate(sample_rate)
        given = changed(front_end_named(front_end, sample_rate), options)
        spec = cls(sample_rate, given.analysis, given.log, front_end=front_end)
        return cast(Self, with_options(spec, options))

    @property
    def dtype(self) -> str:
        """The NumPy name of the stored type."""
        return self.finish.dtype

    @property
    def bins(self) -> int:
        """Columns of the features."""
        return int(self.shape(None)[1] or 0)

    def shape(self, n_samples: int | None) -> tuple[int | None, ...]:
        """(frames, bins) of a clip of that many samples; ``None`` where the length is open."""
        return _shape(self.analysis, n_samples, self.analysis.n_bins, self.finish)

    def apply(self, samples: Floats) -> npt.NDArray[Any]:
        """(batch, n) float32 samples in [-1, 1] → (batch, frames, bins) of ``dtype``."""
        found = spectra(samples, self.analysis, self.sample_rate, None).values
        return _finished(self.log.apply(found) if self.values == "log" else found, self.finish)


@dataclass(frozen=True)
class LogMel:
    """Log-mel spectrogram: (frames, n_mels) per clip; ``energy`` puts the log energy first."""

    kind: ClassVar[str] = "log_mel"
    version: ClassVar[int] = 1
    step: ClassVar[float] = 1.0

    sample_rate: int
    analysis: Analysis
    bank: MelBank = field(default_factory=MelBank)
    log: Log = field(default_factory=Log)
    energy: bool = False
    finish: Finish = field(default_factory=Finish)
    front_end: str = "torchaudio"

    def __post_init__(self) -> None:
        _check_rate(self.sample_rate)
        mel_filters(self.bank, self.sample_rate, self.analysis.n_fft)

    @classmethod
    def at(cls, sample_rate: int, front_end: str = "torchaudio", **options: Any) -> Self:
        """The front end's definition at a rate in Hz, with ``options`` changed."""
        _check_rate(sample_rate)
        given = changed(front_end_named(front_end, sample_rate), options)
        spec = cls(sample_rate, given.analysis, given.bank, given.log, front_end=front_end)
        return cast(Self, with_options(spec, options))

    @property
    def dtype(self) -> str:
        """The NumPy name of the stored type."""
        return self.finish.dtype

    @property
    def bins(self) -> int:
        """Columns of the features."""
        return int(self.shape(None)[1] or 0)

    def shape(self, n_samples: int | None) -> tuple[int | None, ...]:
        """(frames, bins) of a clip of that many samples; ``None`` where the length is open."""
        return _shape(self.analysis, n_samples, self.bank.n_mels + self.energy, self.finish)

    def apply(self, samples: Floats) -> npt.NDArray[Any]:
        """(batch, n) float32 samples in [-1, 1] → (batch, frames, bins) of ``dtype``."""
        found = spectra(samples, self.analysis, self.sample_rate, self.bank, self.energy)
        values = self.log.apply(found.values)
        if found.energies is not None:
            values = np.concatenate([_log_energy(found.energies), values], axis=2)
        return _finished(values, self.finish)


@dataclass(frozen=True)
class Mfcc:
    """Mel-frequency cepstral coefficients: (frames, n_mfcc) per clip.

    With ``energy`` the first coefficient is the log energy; ``lifter`` is the HTK lifter's length.
    """

    kind: ClassVar[str] = "mfcc"
    version: ClassVar[int] = 1
    step: ClassVar[float] = 1.0

    sample_rate: int
    analysis: Analysis
    bank: MelBank = field(default_factory=MelBank)
    log: Log = field(default_factory=Log)
    n_mfcc: int = 40
    lifter: float = 0.0
    energy: bool = False
    finish: Finish = field(default_factory=Finish)
    front_end: str = "torchaudio"

    def __post_init__(self) -> None:
        _check_rate(self.sample_rate)
        mel_filters(self.bank, self.sample_rate, self.analysis.n_fft)
        if not 1 <= self.n_mfcc <= self.bank.n_mels:
            raise FeatureError(
                f"n_mfcc={self.n_mfcc}: expected 1 to n_mels={self.bank.n_mels} coefficients"
            )
        if self.lifter and not 1 <= self.lifter <= 1e6:
            raise FeatureError(f"lifter={self.lifter}: expected 0 (none), or 1 and more")

    @classmethod
    def at(cls, sample_rate: int, front_end: str = "torchaudio", **options: Any) -> Self:
        """The front end's definition at a rate in Hz, with ``options`` changed."""
        _check_rate(sample_rate)
        given = front_end_named(front_end, sample_rate)
        own = {
            "n_mels": given.mfcc_mels,
            "n_mfcc": given.n_mfcc,
            "lifter": given.lifter,
            "energy": given.energy,
        }
        given = changed(given, own | options)
        spec = cls(sample_rate, given.analysis, given.bank, given.log, 1, front_end=front_end)
        return cast(Self, with_options(spec, own | options))

    @property
    def dtype(self) -> str:
        """The NumPy name of the stored type."""
        return self.finish.dtype

    @property
    def bins(self) -> int:
        """Columns of the features."""
        return int(self.shape(None)[1] or 0)

    def shape(self, n_samples: int | None) -> tuple[int | None, ...]:
        """(frames, n_mfcc) of a clip of that many samples; ``None`` where the length is open."""
        return _shape(self.analysis, n_samples, self.n_mfcc, self.finish)

    def apply(self, samples: Floats) -> npt.NDArray[Any]:
        """(batch, n) float32 samples in [-1, 1] → (batch, frames, n_mfcc) of ``dtype``."""
        found = spectra(samples, self.analysis, self.sample_rate, self.bank, self.energy)
        matrix = dct_matrix(self.bank.n_mels, self.n_mfcc, self.lifter)
        values = self.log.apply(found.values) @ matrix.astype(found.values.dtype)
        if found.energies is not None:
            values[:, :, :1] = _log_energy(found.energies)
        return _finished(values, self.finish)


def _check_rate(sample_rate: int) -> None:
    if not 1_000 <= sample_rate <= 1_000_000:
        raise FeatureError(f"sample_rate={sample_rate}: expected 1,000 to 1,000,000 Hz")


def _shape(
    analysis: Analysis, n_samples: int | None, bins: int, finish: Finish
) -> tuple[int | None, ...]:
    if n_samples is not None and n_samples < analysis.shortest:
        raise FeatureError(
            f"clips of {n_samples} samples: expected at least {analysis.shortest} for "
            f"n_fft={analysis.n_fft}, edges={analysis.edges}"
        )
    frames = None if n_samples is None else analysis.frames(n_samples)
    return frames, bins * (1 + finish.deltas)


def _log_energy(energies: Values) -> Values:
    """(batch, frames) sums of squares → (batch, frames, 1) natural logarithms."""
    logs: Values = np.log(np.maximum(energies, energies.dtype.type(ENERGY_FLOOR)))
    return logs[:, :, np.newaxis]


def _finished(values: Values, finish: Finish) -> npt.NDArray[Any]:
    """Differences, normalisation and the stored type; NaN and infinity are refused."""
    if not np.isfinite(_largest(values)):
        raise ClipError("the clip holds NaN or infinite samples")
    whole = normalized(with_deltas(values, finish.deltas), finish.normalize)
    largest = _largest(whole)
    if largest > float(np.finfo(finish.dtype).max):
        raise ClipError(f"a value of {largest:.3g} is more than {finish.dtype} holds")
    return whole.astype(finish.dtype, copy=False)


def _largest(values: Values) -> float:
    """The largest absolute value; NaN where there is one."""
    return float(np.maximum(-values.min(initial=0), values.max(initial=0)))
