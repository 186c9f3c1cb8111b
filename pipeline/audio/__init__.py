"""Bytes → mono float32 samples at the wanted rate, level and length.

Plain WAV is decoded straight from the mapped bytes (``wav``); every other format goes through
soundfile (libsndfile: FLAC, OGG, Opus, MP3, AIFF, companded WAV).
"""

import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.audio.conditioning import RATES, Audio, condition, fix_length, mono, resample
from pipeline.audio.wav import FLOAT, parse, wav_duration
from pipeline.audio.wav import samples as samples_of
from pipeline.errors import ClipError, UsageError
from pipeline.records import Piece

__all__ = [
    "Audio",
    "Decoded",
    "condition",
    "decode",
    "fix_length",
    "load_audio",
    "measure",
    "mono",
    "resample",
    "wav_duration",
]

Floats = npt.NDArray[np.float32]
SAMPLES_PER_BYTE = 10_000  # no codec packs more; a header that claims more lies
FORMATS = "expected WAV, FLAC, OGG, Opus, MP3 or AIFF"  # what people have; libsndfile reads more
SILENT = 1e-3  # peak of a clip that is worth a warning: -60 dB of full scale
FULL_SCALE, CLIPPED_SHARE = 0.99, 1e-3  # so many samples at one extreme were cut off there


@dataclass(frozen=True)
class Decoded:
    """``samples``: (n, channels) float32 at ``rate`` Hz.

    ``missing`` is what the header promised beyond them: bytes of plain WAV, else frames.
    """

    samples: Floats
    rate: int
    missing: int = 0


def load_audio(pieces: Sequence[Piece], audio: Audio | None) -> Floats:
    """Decode the pieces, join them and bring them to the declared form.

    Truncated, silent and clipped pieces get a warning.

    Returns:
        (n,) float32, nominally in [-1, 1], mono, at ``audio.sample_rate`` Hz.

    Raises:
        ClipError: the bytes are not audio, or the clip is empty or holds NaN or infinity.
    """
    if audio is None:
        raise UsageError("this recipe's data is audio: its recipe must declare `audio`")
    parts = []
    for piece in pieces:
        decoded = decode(piece.data)
        if not RATES[0] <= decoded.rate <= RATES[1]:
            raise ClipError(f"its header claims a sample rate of {decoded.rate:,} Hz")
        samples = mono(decoded.samples)[piece.start : piece.stop]
        if decoded.missing:
            piece.warnings.append("truncated: the header promises more than there is")
        piece.warnings.extend(oddities(samples))
        parts.append(resample(samples, decoded.rate, audio.sample_rate))
    samples = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if not samples.size:
        raise ClipError("the clip holds no samples")
    return condition(samples, audio)


def oddities(samples: Floats) -> list[str]:
    """Whether (n,) samples are silent (a peak below -60 dB of full scale) or clipped.

    Clipped is a clip with 0.1 % of its samples at its very maximum or minimum, near full scale.
    """
    if not samples.size:
        return []
    low, high = float(samples.min()), float(samples.max())
    peak = max(-low, high)
    if peak < SILENT:
        return [f"silent: its peak is {20 * math.log10(max(peak, 1e-10)):.0f} dB of full scale"]
    if peak < FULL_SCALE:
        return []
    extremes = {extreme for extreme in (low, high) if abs(extreme) >= FULL_SCALE}
    cut = sum(int(np.count_nonzero(samples == extreme)) for extreme in extremes) / samples.size
    return [f"clipped: {cut:.1%} of its samples are at full scale"] if cut >= CLIPPED_SHARE else []


def decode(data: memoryview | bytes) -> Decoded:
    """Decode a whole audio file.

    Raises:
        ClipError: with the decoder's reason, or for samples that are NaN or infinite.
    """
    wav = parse(memoryview(data))
    decoded = Decoded(samples_of(wav), wav.rate, wav.missing) if wav else _by_libsndfile(data)
    if (wav is None or wav.tag == FLOAT) and not np.isfinite(decoded.samples).all():
        raise ClipError("the clip holds NaN or infinite samples")
    return decoded


def measure(data: memoryview | bytes) -> tuple[int, int]:
    """(rate in Hz, samples per channel) of an audio file, by its header where that tells.

    Raises:
        ClipError: with the decoder's reason.
    """
    wav = parse(memoryview(data))
    if wav:
        return wav.rate, len(wav.body) // (wav.bits // 8 * wav.channels)
    with _opened(data) as file:
        return file.samplerate, file.frames


@contextmanager
def _opened(data: memoryview | bytes) -> Iterator[Any]:
    """An open ``soundfile.SoundFile``; what goes wrong with it is a ClipError."""
    import soundfile

    try:
        with soundfile.SoundFile(_Bytes(data)) as file:
            if file.frames > len(data) * SAMPLES_PER_BYTE:
                raise ClipError(f"its header claims {file.frames:,} samples in {len(data)} bytes")
            yield file
    except (soundfile.SoundFileError, ValueError, MemoryError) as error:
        reason = str(error).rpartition(": ")[2].rstrip(".")
        begin = bytes(data[:4])
        told = f"{reason}; {FORMATS}, got {begin!r} …" if begin else "an empty file"
        raise ClipError(f"not readable as audio ({told})") from None


def _by_libsndfile(data: memoryview | bytes) -> Decoded:
    """Everything but plain WAV."""
    with _opened(data) as file:
        samples: Floats = file.read(dtype="float32", always_2d=True)
        return Decoded(samples, file.samplerate, max(file.frames - len(samples), 0))


class _Bytes(io.BytesIO):
    """Bytes for libsndfile, which seeks wherever a damaged header points."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As ``io.BytesIO``, but before the beginning is the beginning."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.getbuffer().nbytes}
        return super().seek(max(0, base[whence] + offset))
