"""Examples and means of features as small pictures and sounds."""

import binascii
import io
import struct

import numpy as np

from pipeline.features import Pixels, Tokens, Vector, Waveform
from pipeline.images import COLOURS, as_png, coloured
from pipeline.report.survey import Floats, Survey
from pipeline.rows import Array

WIDTH, HEIGHT = 128, 64  # at most: a bin and a few frames are a pixel
SIDE = 128  # pixels of an image's longer side, at most: 144 images have to fit the page
FRAME, FLOOR = 0.025, 80.0  # seconds; dB below a clip's loudest that are shown
TOKEN, BARS = 6, 48  # pixels: the width of a token's bar, the height of the highest


def picture(found: Survey, features: Array) -> bytes | None:
    """One example as a PNG; None for tokens and for what has no length.

    Spectra have time to the right and frequency, or the number of the coefficient, upwards.
    """
    feature = found.sealed.feature
    if isinstance(feature, Tokens) or not features.size:
        return None
    if isinstance(feature, Pixels | Vector):
        return image_picture(features, feature)
    if isinstance(feature, Waveform):
        return as_png(coloured(spectrogram(features, feature, WIDTH).T[::-1]))
    return spectra_picture(found, features)


def image_picture(values: Array, feature: Pixels | Vector) -> bytes:
    """An image, or the mean of many, as a PNG of the same proportions."""
    image = values.reshape(feature.height, feature.width).astype(np.float64)
    scale = min(SIDE / max(image.shape), 1)
    rows, columns = (max(round(side * scale), 1) for side in image.shape)
    return as_png(np.rint(_shrunk(image, rows, columns)).astype(np.uint8))


def spectra_picture(found: Survey, features: Array) -> bytes:
    """(frames, bins) features, or the mean of many, as a PNG."""
    values = features.astype(np.float64)
    mean, std = (found.sealed.info["statistics"][name] for name in ("mean", "std"))
    if mean is not None:  # else the first coefficient of an MFCC outshines all others
        values = (values - np.array(mean)) / np.maximum(std, 1e-9)
    return as_png(coloured(_shrunk(values, WIDTH, HEIGHT).T[::-1]))


def spectrogram(samples: Array, feature: Waveform, frames: int) -> Floats:
    """(n,) stored samples → (at most ``frames``, ``HEIGHT``) dB, linear in frequency."""
    size = max(int(FRAME * feature.sample_rate), 2 * HEIGHT)
    held = samples.astype(np.float32) * np.float32(feature.step)
    held = np.pad(held, (0, max(size - len(held), 0)))
    starts = np.linspace(0, len(held) - size, min(frames, 1 + len(held) - size)).astype(int)
    windows = held[starts[:, None] + np.arange(size)] * np.hanning(size)
    powers = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    levels = 10 * np.log10(np.maximum(powers, 1e-10))
    return _shrunk(np.maximum(levels, levels.max() - FLOOR), frames, HEIGHT).astype(np.float32)


def _shrunk(values: Array, rows: int, columns: int) -> Array:
    """At most that many rows and columns, each the mean of its neighbours."""
    for axis, most in enumerate((rows, columns)):
        length = values.shape[axis]
        if length > most:
            edges = np.arange(most) * length // most
            sums = np.add.reduceat(values, edges, axis=axis)
            widths = np.diff([*edges, length])
            values = sums / (widths[:, None] if axis == 0 else widths)
    return values


def shares_picture(shares: Floats) -> bytes:
    """(n,) shares as a PNG of n bars."""
    heights = np.round(BARS * shares / max(float(shares.max()), 1e-9)).astype(int)
    inside = np.arange(BARS, 0, -1)[:, None] <= np.repeat(heights, TOKEN)
    inside[:, TOKEN - 1 :: TOKEN] = False
    return as_png(np.where(inside[..., None], COLOURS[2], 238).astype(np.uint8))


def sound(samples: Array, feature: Waveform, seconds: float) -> bytes:
    """The first seconds of a clip as a 16-bit WAV, which every browser plays."""
    held = samples[: int(seconds * feature.sample_rate)]
    if held.dtype != np.int16:
        held = np.rint(np.clip(held, -1, 32767 / 32768) * 32768).astype(np.int16)
    rate, size = feature.sample_rate, held.nbytes
    out = io.BytesIO()
    out.write(b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt ")
    out.write(struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16))
    out.write(b"data" + struct.pack("<I", size) + held.astype("<i2").tobytes())
    return out.getvalue()


def base64(data: bytes) -> str:
    """Bytes as a ``data:`` URL has them."""
    return binascii.b2a_base64(data, newline=False).decode()
