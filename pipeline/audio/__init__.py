"""Bytes → mono float32 samples at the wanted rate, level and length.

Plain WAV is decoded straight from the mapped bytes (``wav``); every other format goes through
soundfile (libsndfile: FLAC, OGG, Opus, MP3, AIFF, companded WAV).
"""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.audio.conditioning import RATES, Audio, condition, fix_length, mono, resample
from pipeline.audio.wav import parse, wav_duration
from pipeline.audio.wav import samples as samples_of
from pipeline.errors import ClipError, UsageError
from pipeline.records import Piece

__all__ = [
    "Audio",
    "condition",
    "decode",
    "fix_length",
    "load_audio",
    "mono",
    "resample",
    "wav_duration",
]

Floats = npt.NDArray[np.float32]
SAMPLES_PER_BYTE = 10_000  # no codec packs more; a header that claims more lies


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
    return condition(samples, audio)


def decode(data: memoryview | bytes) -> tuple[Floats, int]:
    """Decode a whole audio file.

    Returns:
        (n, channels) float32 and its rate in Hz.

    Raises:
        ClipError: with the decoder's reason.
    """
    wav = parse(memoryview(data))
    if wav is not None:
        return samples_of(wav), wav.rate
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
