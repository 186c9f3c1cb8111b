"""Short-time Fourier analysis in NumPy and SciPy: frames, windows, power spectra.

It needs no torch, so that a worker that prepares features starts in a fraction of a second.
SciPy's pocketfft transforms float32 in float32, many frames at once, with one thread.
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def hann(length: int) -> npt.NDArray[np.float64]:
    """The periodic Hann window, (length,) in [0, 1], as ``torch.hann_window`` makes it."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)


def reflect_pad(samples: Floats, width: int) -> Floats:
    """(batch, n) → (batch, n + 2·width): mirrored at both ends, the edge itself not repeated.

    ``np.pad`` does the same at several times the cost for a batch; n must be above ``width``.
    """
    batch, n = samples.shape
    padded = np.empty((batch, n + 2 * width), np.float32)
    padded[:, width : width + n] = samples
    padded[:, :width] = samples[:, width:0:-1]
    padded[:, width + n :] = samples[:, -2 : -width - 2 : -1]
    return padded


def frame_count(n_samples: int, hop_length: int) -> int:
    """Frames of a centred analysis: one at sample 0, then one every ``hop_length`` samples."""
    return 1 + n_samples // hop_length


def power_spectrum(samples: Floats, n_fft: int, win_length: int, hop_length: int) -> Floats:
    """Centred power spectrogram of a batch of equally long clips.

    Args:
        samples: (batch, n) float32, n above ``n_fft // 2``.
        n_fft: length of the transform in samples.
        win_length: length of the window in samples, at most ``n_fft``.
        hop_length: samples from one frame to the next.

    Returns:
        (batch, 1 + n // hop_length, 1 + n_fft // 2) float32, |X|², not normalised.

    The definition is ``torch.stft(center=True, pad_mode="reflect")`` with a Hann window padded to
    ``n_fft`` on both sides. The padding only turns the phase, so it is left to the FFT here.
    """
    import scipy.fft  # 0.2 s: only a process that computes spectra pays for it

    padded = reflect_pad(samples, n_fft // 2)
    left = (n_fft - win_length) // 2
    frames = np.lib.stride_tricks.sliding_window_view(padded, win_length, axis=1)
    frames = frames[:, left : left + samples.shape[1] + 1 : hop_length]
    spectrum = scipy.fft.rfft(frames * hann(win_length).astype(np.float32), n=n_fft, axis=-1)
    # |z|² through the real view: half the memory traffic of z.real**2 + z.imag**2.
    parts: Floats = spectrum.view(np.float32)
    np.square(parts, out=parts)
    power: Floats = parts[..., 0::2] + parts[..., 1::2]
    return power


def decibels(power: Floats, top_db: float | None) -> Floats:
    """10·log10 of power, floored at 1e-10 and, per clip, at ``top_db`` below the clip's peak.

    ``power`` is (batch, frames, bins); the answer has its shape. As
    ``torchaudio.functional.amplitude_to_DB(x, 10.0, 1e-10, 0.0, top_db)`` on one clip.
    """
    values: Floats = np.log10(np.maximum(power, np.float32(1e-10)))
    values *= np.float32(10)
    if top_db is not None:
        peak = values.max(axis=(1, 2), keepdims=True)
        np.maximum(values, peak - np.float32(top_db), out=values)
    return values
