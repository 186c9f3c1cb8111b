"""Samples and pixels as the bytes of files that everybody plays and shows, and back, exactly."""

import io
import math
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import DatasetError
from pipeline.images import png_chunk, png_head

Array = npt.NDArray[Any]
FLAC_RATES = range(1, 655_351)
NPY_HEAD = 128  # bytes before the values of a .npy, for any array of ours
WAV = {"int16": (1, 16), "float32": (3, 32)}  # format tag, bits


def audio_ending(samples: Array, rate: int) -> str:
    """``flac`` where the samples are exactly 16-bit, else ``wav``."""
    fits = len(samples) and rate in FLAC_RATES and _as_int16(samples) is not None
    return "flac" if fits else "wav"


def as_audio(samples: Array, rate: int, ending: str) -> bytes:
    """(n,) int16 or float32 samples as the bytes of a FLAC or WAV file.

    Raises:
        DatasetError: the samples don't fit into that kind of file.
    """
    if ending == "wav":
        return _wav_head(len(samples), rate, str(samples.dtype)) + samples.tobytes()
    if audio_ending(samples, rate) != ending:
        raise DatasetError(f"{len(samples)} samples of {rate} Hz: not to be had as {ending}")
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, _as_int16(samples), rate, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def from_audio(data: bytes, rate: int, dtype: str, samples: int) -> Array:
    """The (samples,) samples of one of our files, of ``dtype``.

    Raises:
        DatasetError: no mono FLAC or WAV of ours, of another rate or length.
    """
    if data[:4] == b"RIFF":
        head = _wav_head(samples, rate, dtype)
        if data[: len(head)] != head or len(data) != len(head) + samples * np.dtype(dtype).itemsize:
            raise DatasetError(f"expected a WAV of {samples} {dtype} samples at {rate} Hz")
        return np.frombuffer(data, dtype, samples, len(head))
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            got = (file.format, file.subtype, file.channels, file.samplerate, file.frames)
            if got != ("FLAC", "PCM_16", 1, rate, samples):
                raise DatasetError(f"expected {samples} samples of FLAC at {rate} Hz, got {got}")
            found: Array = file.read(dtype=dtype)
    except soundfile.LibsndfileError as error:
        raise DatasetError(f"no audio that can be read: {error}") from None
    if len(found) != samples:
        raise DatasetError(f"expected {samples} samples of FLAC, got {len(found)}")
    return found


def sample_count(data: bytes, dtype: str) -> int:
    """How many samples one of our FLAC or WAV files says that it holds; 0 for anything else."""
    if data[:4] == b"RIFF":
        return max(len(data) - len(_wav_head(0, 0, dtype)), 0) // np.dtype(dtype).itemsize
    # STREAMINFO comes first: 36 bits from bit 108 on (RFC 9639, section 8.2).
    return int.from_bytes(data[21:26]) & (1 << 36) - 1 if data[:4] == b"fLaC" else 0


def from_png(data: bytes, height: int, width: int) -> Array:
    """The (height, width) uint8 pixels of one of our grey PNGs.

    Raises:
        DatasetError: no grey PNG of ours, or of another size.
    """
    head, end = png_head(height, width, 2), png_chunk(b"IEND", b"")
    body = data[len(head) + 8 : -len(end) - 4]
    inflate, size = zlib.decompressobj(), height * (1 + width)
    try:
        lines = inflate.decompress(body, size + 1)
    except zlib.error as error:
        raise DatasetError(f"no PNG that can be read: {error}") from None
    whole = len(lines) == size and inflate.eof and not inflate.unused_data
    if data != head + png_chunk(b"IDAT", body) + end or not whole:
        raise DatasetError(f"expected a grey PNG of {height}×{width} pixels as we write it")
    pixels = np.frombuffer(lines, np.uint8).reshape(height, 1 + width)
    if pixels[:, 0].any():
        raise DatasetError("expected a PNG whose lines are not filtered")
    return pixels[:, 1:]


def as_npy(values: Array) -> bytes:
    """Any array as the bytes of a ``.npy`` file."""
    return _npy_head(values.shape, values.dtype) + np.ascontiguousarray(values).tobytes()


def from_npy(data: bytes, dtype: str, inner: tuple[int, ...]) -> Array:
    """The (n, …) values of one of our files, ``inner`` being all dimensions but the first.

    Raises:
        DatasetError: no ``.npy`` of ours, or of another type or shape.
    """
    kind = np.dtype(dtype)
    rows = max(len(data) - NPY_HEAD, 0) // (kind.itemsize * math.prod(inner))
    head, size = _npy_head((rows, *inner), kind), rows * kind.itemsize * math.prod(inner)
    if data[: len(head)] != head or len(data) != len(head) + size:
        raise DatasetError(f"expected a .npy of {dtype}, (n{''.join(f', {n}' for n in inner)})")
    return np.frombuffer(data, kind, offset=len(head)).reshape(-1, *inner)


def _npy_head(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    out = io.BytesIO()
    told = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, told)
    return out.getvalue()


def _as_int16(samples: Array) -> Array | None:
    """The 16-bit samples that these are, to the bit; None where they are none."""
    if samples.dtype == np.int16:
        return samples
    with np.errstate(over="ignore", invalid="ignore"):  # infinite and NaN samples are none
        exact = np.rint(np.clip(samples * np.float32(32768), -32768, 32767)).astype(np.int16)
    back = exact.astype(np.float32) / np.float32(32768)
    return exact if back.tobytes() == samples.tobytes() else None


def _wav_head(samples: int, rate: int, dtype: str) -> bytes:
    """All of a mono WAV before its samples. Written by hand: libsndfile would add the time."""
    tag, bits = WAV[dtype]
    size, block = samples * bits // 8, bits // 8
    form = struct.pack("<HHIIHHH", tag, 1, rate, rate * block, block, bits, 0)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"fact" + struct.pack("<II", 4, samples) + b"data" + struct.pack("<I", size)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks) + size) + b"WAVE" + chunks
