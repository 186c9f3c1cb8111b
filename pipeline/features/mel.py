"""``MelBank``: triangular filters on a mel scale; and the cosine transform of what they give."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from pipeline.errors import FeatureError
from pipeline.features.options import check_choices

Doubles = npt.NDArray[np.float64]

SCALES = ("htk", "slaney")
NORMS = ("none", "slaney")
SLOPES = ("hertz", "mel")
MOST_WEIGHTS = 1 << 23  # of bins times filters: 64 MB
# Slaney's Auditory Toolbox (1998): linear below 1000 Hz, logarithmic above.
SLANEY_HZ_PER_MEL, SLANEY_CORNER_HZ, SLANEY_LOG_STEP = 200 / 3, 1000.0, np.log(6.4) / 27


@dataclass(frozen=True)
class MelBank:
    """``n_mels`` triangles, evenly spaced on a mel scale from ``f_min`` to ``f_max`` Hz.

    Attributes:
        f_max: None is half the sample rate.
        scale: ``htk``, 2595·log10(1 + f/700) (also Kaldi's), or ``slaney``.
        norm: ``none``: every triangle has height 1; ``slaney``: every triangle has the same area.
        slopes: whether the triangles' sides are straight in ``hertz`` or, as Kaldi's, in ``mel``.
    """

    n_mels: int = 64
    f_min: float = 0.0
    f_max: float | None = None
    scale: str = "htk"
    norm: str = "none"
    slopes: str = "hertz"

    def __post_init__(self) -> None:
        check_choices(self, {"scale": SCALES, "norm": NORMS, "slopes": SLOPES})
        if not 1 <= self.n_mels <= 1024:
            raise FeatureError(f"n_mels={self.n_mels}: expected 1 to 1024")


def hz_to_mel(hertz: Doubles, scale: str) -> Doubles:
    """Frequencies in Hz on a mel scale (HTK: Young et al., The HTK Book, section 5.4)."""
    if scale == "htk":
        return 2595.0 * np.log10(1.0 + hertz / 700.0)
    above = np.log(np.maximum(hertz, SLANEY_CORNER_HZ) / SLANEY_CORNER_HZ) / SLANEY_LOG_STEP
    corner = SLANEY_CORNER_HZ / SLANEY_HZ_PER_MEL
    return np.where(hertz < SLANEY_CORNER_HZ, hertz / SLANEY_HZ_PER_MEL, corner + above)


def mel_to_hz(mel: Doubles, scale: str) -> Doubles:
    """The inverse of ``hz_to_mel``."""
    if scale == "htk":
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    corner = SLANEY_CORNER_HZ / SLANEY_HZ_PER_MEL
    above = SLANEY_CORNER_HZ * np.exp(SLANEY_LOG_STEP * (np.maximum(mel, corner) - corner))
    return np.where(mel < corner, mel * SLANEY_HZ_PER_MEL, above)


@cache
def mel_filters(bank: MelBank, sample_rate: int, n_fft: int) -> Doubles:
    """The filters as weights of FFT bins, (1 + n_fft // 2, n_mels) float64, read-only.

    As ``torchaudio.functional.melscale_fbanks``, ``librosa.filters.mel`` or Kaldi's ``MelBanks``.

    Raises:
        FeatureError: bounds outside 0 Hz to half the sample rate, or a filter so narrow that no
            FFT bin falls into it.
    """
    if bank.n_mels * (1 + n_fft // 2) > MOST_WEIGHTS:
        raise FeatureError(f"n_mels={bank.n_mels}: too many filters for n_fft={n_fft}")
    nyquist = sample_rate / 2
    f_max = nyquist if bank.f_max is None else bank.f_max
    if f_max > nyquist:
        raise FeatureError(f"f_max={f_max}: expected at most {nyquist} Hz, half the sample rate")
    if not 0 <= bank.f_min < f_max:
        raise FeatureError(f"f_min={bank.f_min}: expected 0 to below f_max={f_max} Hz")
    bins: Doubles = np.arange(1 + n_fft // 2, dtype=np.float64) * (sample_rate / n_fft)
    lowest, highest = hz_to_mel(np.array([bank.f_min, f_max]), bank.scale)
    mels: Doubles = np.linspace(lowest, highest, bank.n_mels + 2)
    edges = mel_to_hz(mels, bank.scale)
    if bank.slopes == "hertz":
        filters = _triangles(bins, edges)
    else:
        filters = _triangles(hz_to_mel(bins, bank.scale), mels)
    if bank.norm == "slaney":
        filters *= 2.0 / (edges[2:] - edges[:-2])
    empty = int((filters.max(axis=0) == 0).sum())
    if empty:
        raise FeatureError(
            f"n_mels={bank.n_mels}: {empty} of the filters would hold no FFT bin at n_fft={n_fft}, "
            f"{sample_rate} Hz; take fewer mels or a larger n_fft"
        )
    filters.setflags(write=False)  # cached: nobody may change it
    return filters


def _triangles(at: Doubles, edges: Doubles) -> Doubles:
    """Triangle i rises from edge i to edge i+1 and falls to edge i+2: (points, triangles)."""
    widths = np.diff(edges)
    slopes = edges[np.newaxis, :] - at[:, np.newaxis]
    rising = -slopes[:, :-2] / widths[:-1]
    falling = slopes[:, 2:] / widths[1:]
    triangles: Doubles = np.maximum(0.0, np.minimum(rising, falling))
    return triangles


@cache
def dct_matrix(n_mels: int, n_mfcc: int, lifter: float) -> Doubles:
    """The orthonormal DCT-II, liftered: (n_mels, n_mfcc) float64, read-only.

    Coefficient k is multiplied with 1 + lifter/2·sin(πk/lifter) (HTK Book, equation 5.12), unless
    ``lifter`` is 0. As ``torchaudio.functional.create_dct(norm="ortho")``.
    """
    n = np.arange(n_mels)[:, np.newaxis]
    k = np.arange(n_mfcc)[np.newaxis, :]
    matrix: Doubles = np.sqrt(2.0 / n_mels) * np.cos(np.pi / n_mels * (n + 0.5) * k)
    matrix[:, 0] = np.sqrt(1.0 / n_mels)
    if lifter:
        matrix *= 1.0 + lifter / 2 * np.sin(np.pi * k / lifter)
    matrix.setflags(write=False)
    return matrix
