"""Every front end once more, in float64, from its published definition.

Written from the papers and the tools' documentation, not from ``pipeline``, frame by frame and
with plain sums, so that the two can only agree by both being right. Each function takes float64
samples in [-1, 1] of one clip and gives (frames, bins) float64.
"""

import numpy as np

Array = np.ndarray


def hann(n: int) -> Array:
    """Periodic: 0.5 - 0.5·cos(2πi/n)."""
    return np.array([0.5 - 0.5 * np.cos(2 * np.pi * i / n) for i in range(n)])


def power(frame: Array, n_fft: int) -> Array:
    """|DFT|² by its definition, as a matrix product."""
    k, t = np.arange(n_fft // 2 + 1)[:, None], np.arange(len(frame))[None, :]
    return np.abs(np.exp(-2j * np.pi * ((k * t) % n_fft) / n_fft) @ frame) ** 2


def centred(x: Array, n_fft: int, win: int, hop: int, mode: str) -> Array:
    """Power spectra of frames centred on multiples of ``hop``."""
    padded = np.pad(x, n_fft // 2, mode=mode)
    window = np.zeros(n_fft)
    left = (n_fft - win) // 2
    window[left : left + win] = hann(win)
    count = 1 + len(x) // hop
    return np.array(
        [power(padded[t * hop : t * hop + n_fft] * window, n_fft) for t in range(count)]
    )


def htk_mel(f: Array) -> Array:
    return 2595 * np.log10(1 + f / 700)


def htk_hz(m: Array) -> Array:
    return 700 * (10 ** (m / 2595) - 1)


def slaney_mel(f: Array) -> Array:
    """Auditory Toolbox: 3 mels per 200 Hz to 1000 Hz, then 27 mels for a factor of 6.4."""
    return np.where(
        f < 1000, 3 * f / 200, 15 + 27 * np.log(np.maximum(f, 1e-9) / 1000) / np.log(6.4)
    )


def slaney_hz(m: Array) -> Array:
    return np.where(m < 15, 200 * m / 3, 1000 * 6.4 ** ((m - 15) / 27))


def triangles(points: Array, edges: Array) -> Array:
    """(points, len(edges) - 2): up from edge i to i+1, down to i+2."""
    out = np.zeros((len(points), len(edges) - 2))
    for i, (a, b, c) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        up, down = (points - a) / (b - a), (c - points) / (c - b)
        out[:, i] = np.clip(np.minimum(up, down), 0, None)
    return out


def bank(rate: int, n_fft: int, mels: int, low: float, high: float, slaney: bool) -> Array:
    to_mel, to_hz = (slaney_mel, slaney_hz) if slaney else (htk_mel, htk_hz)
    ends = to_mel(np.array([low, high], float))
    edges = to_hz(np.linspace(*ends, mels + 2))
    filters = triangles(np.arange(n_fft // 2 + 1) * rate / n_fft, edges)
    return filters * (2 / (edges[2:] - edges[:-2])) if slaney else filters


def decibels(energies: Array, top: float = 80.0) -> Array:
    values = 10 * np.log10(np.maximum(energies, 1e-10))
    return np.maximum(values, values.max() - top)


def dct(values: Array, count: int) -> Array:
    """Orthonormal DCT-II along the bins."""
    n = values.shape[1]
    out = np.zeros((len(values), count))
    for k in range(count):
        basis = np.cos(np.pi * k * (2 * np.arange(n) + 1) / (2 * n))
        out[:, k] = values @ basis * np.sqrt((1 if k == 0 else 2) / n)
    return out


def torchaudio_log_mel(x: Array, rate: int, n_fft: int, win: int, hop: int, mels: int) -> Array:
    """MelSpectrogram and AmplitudeToDB("power", 80)."""
    spectra = centred(x, n_fft, win, hop, "reflect")
    return decibels(spectra @ bank(rate, n_fft, mels, 0, rate / 2, slaney=False))


def librosa_log_mel(x: Array, rate: int, n_fft: int, win: int, hop: int, mels: int) -> Array:
    """feature.melspectrogram and power_to_db."""
    spectra = centred(x, n_fft, win, hop, "constant")
    return decibels(spectra @ bank(rate, n_fft, mels, 0, rate / 2, slaney=True))


def kaldi_frames(x: Array, win: int, hop: int) -> tuple[Array, Array]:
    """Frames after DC removal, pre-emphasis and Povey window; their raw log energies."""
    count = 1 + (len(x) - win) // hop
    window = np.array([(0.5 - 0.5 * np.cos(2 * np.pi * i / (win - 1))) ** 0.85 for i in range(win)])
    frames, energies = [], []
    for t in range(count):
        frame = x[t * hop : t * hop + win] * 32768
        frame = frame - frame.mean()
        energies.append(np.log(max((frame**2).sum(), 2.0**-23)))
        before = np.concatenate([frame[:1], frame[:-1]])
        frames.append((frame - 0.97 * before) * window)
    return np.array(frames), np.array(energies)


def kaldi_log_mel(x: Array, rate: int, mels: int) -> Array:
    """compute-fbank-feats with 80 mels: triangles straight in mel, natural logarithm."""
    win, hop = rate // 40, rate // 100
    n_fft = 1
    while n_fft < win:
        n_fft *= 2
    frames, _ = kaldi_frames(x, win, hop)
    spectra = np.array([power(frame, n_fft) for frame in frames])
    ends = 1127 * np.log(1 + np.array([20, rate / 2]) / 700)
    points = 1127 * np.log(1 + np.arange(n_fft // 2 + 1) * rate / n_fft / 700)
    energies = spectra @ triangles(points, np.linspace(*ends, mels + 2))
    return np.log(np.maximum(energies, 2.0**-23))


def kaldi_mfcc(x: Array, rate: int) -> Array:
    """compute-mfcc-feats: 23 mels, 13 coefficients, lifter 22, log energy first."""
    cepstra = dct(kaldi_log_mel(x, rate, 23), 13)
    cepstra *= 1 + 11 * np.sin(np.pi * np.arange(13) / 22)
    cepstra[:, 0] = kaldi_frames(x, rate // 40, rate // 100)[1]
    return cepstra


def whisper_log_mel(x: Array, mels: int) -> Array:
    """log_mel_spectrogram of 16 kHz audio, without its padding to 30 s."""
    spectra = centred(x, 400, 400, 160, "reflect")[:-1]
    energies = spectra @ bank(16000, 400, mels, 0, 8000, slaney=True)
    values = np.log10(np.maximum(energies, 1e-10))
    return (np.maximum(values, values.max() - 8) + 4) / 4


def hifigan_log_mel(x: Array) -> Array:
    """mel_spectrogram(1024, 80, 22050, 256, 1024, 0, 8000): magnitudes, natural logarithm."""
    padded = np.pad(x, (1024 - 256) // 2, mode="reflect")
    count = 1 + (len(padded) - 1024) // 256
    window = hann(1024)
    spectra = np.array(
        [power(padded[t * 256 : t * 256 + 1024] * window, 1024) for t in range(count)]
    )
    energies = np.sqrt(spectra + 1e-9) @ bank(22050, 1024, 80, 0, 8000, slaney=True)
    return np.log(np.maximum(energies, 1e-5))
