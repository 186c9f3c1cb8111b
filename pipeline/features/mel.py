"""Mel filter banks and the cosine transform, computed in float64 and rounded once."""

from functools import cache

import numpy as np
import numpy.typing as npt

from pipeline.errors import FeatureError

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def hz_to_mel(hertz: Doubles) -> Doubles:
    """The HTK mel scale, 2595·log10(1 + f/700) (Young et al., The HTK Book, section 5.4)."""
    return 2595.0 * np.log10(1.0 + hertz / 700.0)


def mel_to_hz(mel: Doubles) -> Doubles:
    """The inverse of ``hz_to_mel``."""
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


@cache
def mel_filters(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float) -> Floats:
    """Triangular filters of equal height 1, evenly spaced on the HTK mel scale.

    Returns:
        (1 + n_fft // 2, n_mels) float32 in [0, 1], as ``torchaudio.functional.melscale_fbanks``
        with ``mel_scale="htk", norm=None``.

    Raises:
        FeatureError: when a filter is so narrow that no FFT bin falls into it.
    """
    bins = np.linspace(0, sample_rate / 2, 1 + n_fft // 2)
    lowest, highest = hz_to_mel(np.array([f_min, f_max]))
    edges = mel_to_hz(np.linspace(lowest, highest, n_mels + 2))
    widths = np.diff(edges)
    slopes = edges[np.newaxis, :] - bins[:, np.newaxis]
    rising = -slopes[:, :-2] / widths[:-1]
    falling = slopes[:, 2:] / widths[1:]
    filters = np.maximum(0.0, np.minimum(rising, falling))
    empty = int((filters.max(axis=0) == 0).sum())
    if empty:
        raise FeatureError(
            f"n_mels={n_mels}: {empty} of the filters would hold no FFT bin at n_fft={n_fft}, "
            f"{sample_rate} Hz; take fewer mels or a larger n_fft"
        )
    rounded: Floats = filters.astype(np.float32)
    rounded.setflags(write=False)  # cached: nobody may change it
    return rounded


@cache
def dct_matrix(n_mels: int, n_mfcc: int) -> Floats:
    """The orthonormal DCT-II that turns log-mel values into cepstral coefficients.

    Returns:
        (n_mels, n_mfcc) float32, as ``torchaudio.functional.create_dct(norm="ortho")``.
    """
    n = np.arange(n_mels)[:, np.newaxis]
    k = np.arange(n_mfcc)[np.newaxis, :]
    matrix = np.sqrt(2.0 / n_mels) * np.cos(np.pi / n_mels * (n + 0.5) * k)
    matrix[:, 0] = np.sqrt(1.0 / n_mels)
    rounded: Floats = matrix.astype(np.float32)
    rounded.setflags(write=False)
    return rounded
