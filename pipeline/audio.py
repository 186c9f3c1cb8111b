"""Bytes → mono float32 samples at the wanted rate: decode, mix, resample, fix the length.

Plain PCM WAV is decoded straight from the mapped bytes with NumPy; every other format goes through
soundfile (libsndfile: FLAC, OGG, MP3, AIFF, float and companded WAV). Integers of b bits become
floats by dividing by 2^(b-1), as libsndfile does, so both ways give the same samples.
"""

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ClipError, UsageError
from pipeline.records import Piece

Floats = npt.NDArray[np.float32]
WAVE_FORMAT_PCM = 1
RESAMPLE_QUALITY = "HQ"
RATES = (1_000, 1_000_000)  # Hz: what is outside is a damaged header
SAMPLES_PER_BYTE = 10_000  # no codec packs more; a header that claims more lies


@dataclass(frozen=True)
class Audio:
    """How a clip becomes samples; part of a dataset's fingerprint.

    ``sample_rate`` in Hz; ``duration`` in seconds pads with zeros or cuts at the end, ``None``
    leaves clips as long as they are.
    """

    sample_rate: int
    duration: float | None = None

    def __post_init__(self) -> None:
        low, high = RATES
        if not low <= self.sample_rate <= high:
            raise UsageError(
                f"audio: sample_rate={self.sample_rate}: expected {low:,} to {high:,} Hz"
            )
        if self.duration is not None and not 1 <= self.duration * self.sample_rate < 1 << 31:
            raise UsageError(
                f"audio: duration={self.duration}: expected one sample to 2^31 of them, or none"
            )

    @property
    def n_samples(self) -> int | None:
        """The length of every clip in samples, or ``None`` where it is open."""
        return None if self.duration is None else round(self.duration * self.sample_rate)


def load_audio(pieces: Sequence[Piece], audio: Audio | None) -> Floats:
    """Decode the pieces, join them and bring them to the declared form.

    Returns:
        (n,) float32, nominally in [-1, 1], mono, at ``audio.sample_rate`` Hz.

    Raises:
        ClipError: the bytes are not audio, or the clip is empty or holds NaN or infinity.
    """
    if audio is None:
        raise UsageError("this recipe's data is audio: its recipe must declare `audio`")
    parts = []
    for piece in pieces:
        samples, rate = decode(piece.data)
        if not RATES[0] <= rate <= RATES[1]:
            raise ClipError(f"its header claims a sample rate of {rate:,} Hz")
        parts.append(resample(mono(samples)[piece.start : piece.stop], rate, audio.sample_rate))
    samples = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if not samples.size:
        raise ClipError("the clip holds no samples")
    if not np.isfinite(samples).all():
        raise ClipError("the clip holds NaN or infinite samples")
    return samples if audio.n_samples is None else fix_length(samples, audio.n_samples)


def decode(data: memoryview | bytes) -> tuple[Floats, int]:
    """Decode a whole audio file.

    Returns:
        (n, channels) float32 and its rate in Hz.

    Raises:
        ClipError: with the decoder's reason.
    """
    pcm = _pcm16(memoryview(data))
    if pcm is not None:
        samples, rate = pcm
        return samples.astype(np.float32) * np.float32(1 / 32768), rate
    import soundfile

    try:
        with soundfile.SoundFile(_Bytes(data)) as file:
            if file.frames > len(data) * SAMPLES_PER_BYTE:
                raise ClipError(f"its header claims {file.frames:,} samples in {len(data)} bytes")
            return file.read(dtype="float32", always_2d=True), file.samplerate
    except (soundfile.SoundFileError, ValueError, MemoryError) as error:
        reason = str(error).rpartition(": ")[2].rstrip(".")
        begin = bytes(data[:4])
        raise ClipError(f"not readable as audio ({reason}; begins with {begin!r})") from None


class _Bytes(io.BytesIO):
    """Bytes for libsndfile, which seeks wherever a damaged header points."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As ``io.BytesIO``, but before the beginning is the beginning."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.getbuffer().nbytes}
        return super().seek(max(0, base[whence] + offset))


def mono(samples: Floats) -> Floats:
    """(n, channels) → (n,), the mean of the channels."""
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)


def resample(samples: Floats, rate: int, wanted: int) -> Floats:
    """(n,) at ``rate`` Hz → (n·wanted/rate,) at ``wanted`` Hz, by libsoxr at quality HQ."""
    if rate == wanted or not samples.size:
        return samples
    import soxr

    resampled: Floats = soxr.resample(samples, rate, wanted, quality=RESAMPLE_QUALITY)
    return resampled


def fix_length(samples: Floats, n_samples: int) -> Floats:
    """(n,) → (n_samples,): zeros added, or samples cut, at the end."""
    if len(samples) >= n_samples:
        return samples[:n_samples]
    return np.concatenate([samples, np.zeros(n_samples - len(samples), np.float32)])


def wav_duration(n_bytes: int, sample_rate: int) -> float:
    """Seconds that a 16-bit mono WAV file of so many bytes lasts, estimated without reading."""
    return max(n_bytes - 44, 0) / 2 / sample_rate


def _pcm16(data: memoryview) -> tuple[npt.NDArray[Any], int] | None:
    """The samples of a 16-bit PCM WAV file, (n, channels) viewing ``data``; None if it is none.

    Chunks may stand in any order. A ``data`` chunk that claims more bytes than there are is read as
    far as it goes, as libsndfile does. Format: Microsoft Multimedia Programming Interface 1.0.
    """
    if len(data) < 12 or bytes(data[:4]) != b"RIFF" or bytes(data[8:12]) != b"WAVE":
        return None
    position, channels, rate = 12, 0, 0
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"fmt " and position + 16 <= len(data):
            tag, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", data, position)
            if tag != WAVE_FORMAT_PCM or bits != 16 or not channels or not rate:
                return None
        if name == b"data":
            body = data[position : position + size]
            whole = len(body) // (2 * channels) if channels else 0
            samples = np.frombuffer(body, "<i2", whole * channels) if channels else None
            return None if samples is None else (samples.reshape(whole, channels), rate)
        position += size + size % 2
    return None
