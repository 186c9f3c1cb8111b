"""Plain WAV, decoded straight from the mapped bytes with NumPy.

Integers of b bits become floats by dividing by 2^(b-1), 8 bits are unsigned around 128, floats stay
as they are: as libsndfile does it, so that both ways give the same samples. Chunks may stand in any
order (Microsoft Multimedia Programming Interface and Data Specifications 1.0; for the extensible
format: Multiple Channel Audio Data and WAVE Files, 2007).
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
PCM, FLOAT, EXTENSIBLE = 1, 3, 0xFFFE
UNKNOWN_SIZE = 0x7FFF0000  # and more: what ffmpeg, sox and others write into a pipe


@dataclass(frozen=True)
class Wav:
    """A WAV file's format and where its samples lie.

    ``claimed`` is the size of the data chunk as the header has it, ``body`` what there is of it.
    Who writes to a pipe doesn't know the size, and claims the largest.
    """

    tag: int
    channels: int
    rate: int
    bits: int
    body: memoryview
    claimed: int

    @property
    def missing(self) -> int:
        """Bytes that the header promises beyond what is there."""
        return self.claimed - len(self.body) if self.claimed < UNKNOWN_SIZE else 0


def parse(data: memoryview) -> Wav | None:
    """The format and samples of a WAV file; None if it is none that this room decodes."""
    if len(data) < 12 or bytes(data[:4]) != b"RIFF" or bytes(data[8:12]) != b"WAVE":
        return None
    position, form, body, claimed = 12, b"", None, 0
    while position + 8 <= len(data) and not (form and body is not None):
        name, size = struct.unpack_from("<4sI", data, position)
        chunk = data[position + 8 : position + 8 + size]
        if name == b"fmt ":
            form = bytes(chunk)
        elif name == b"data":
            body, claimed = chunk, size
        position += 8 + size + size % 2
    if len(form) < 16 or body is None:
        return None
    tag, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", form)
    if tag == EXTENSIBLE and len(form) >= 26:
        (tag,) = struct.unpack_from("<H", form, 24)  # the first bytes of the format's GUID
    known = (tag == PCM and bits in (8, 16, 24, 32)) or (tag == FLOAT and bits in (32, 64))
    if not known or not channels or not rate or block != channels * bits // 8:
        return None
    return Wav(tag, channels, rate, bits, body, claimed)


def samples(wav: Wav) -> Floats:
    """(n, channels) float32; an incomplete last frame is left out."""
    width = wav.bits // 8
    count = len(wav.body) // (width * wav.channels) * wav.channels
    whole = wav.body[: count * width]
    if wav.tag == FLOAT:
        values: npt.NDArray[Any] = np.frombuffer(whole, f"<f{width}").astype(np.float32)
    elif width == 1:
        values = (np.frombuffer(whole, np.uint8).astype(np.float32) - 128) * np.float32(1 / 128)
    else:
        integers = _from_24_bits(whole) if width == 3 else np.frombuffer(whole, f"<i{width}")
        step = 2.0**-15 if width == 2 else 2.0**-31
        values = integers.astype(np.float32)
        values *= np.float32(step)
    return values.reshape(-1, wav.channels)


def _from_24_bits(whole: memoryview) -> npt.NDArray[np.int32]:
    """Three bytes each, as the upper three of four."""
    wide = np.zeros((len(whole) // 3, 4), np.uint8)
    wide[:, 1:] = np.frombuffer(whole, np.uint8).reshape(-1, 3)
    return wide.view("<i4").ravel()


def wav_duration(n_bytes: int, sample_rate: int) -> float:
    """Seconds that a 16-bit mono WAV file of so many bytes lasts, estimated without reading."""
    return max(n_bytes - 44, 0) / 2 / sample_rate
