"""Pictures as arrays and as the bytes of a PNG, made without a plotting library."""

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
# Five points of the colours that matplotlib calls viridis.
COLOURS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]])
PNG_LEVEL = 3  # of zlib; 6 takes half as long again and saves 2 % on handwritten digits
SHADES = 16  # between two points: more are not told apart, and take a third more bytes


def as_png(image: Array) -> bytes:
    """(height, width) uint8 grey, or (height, width, 3) uint8 colours, as a PNG's bytes."""
    height, width = image.shape[:2]
    lines = np.zeros((height, 1 + image[0].size), np.uint8)  # each begins with its filter: none
    lines[:, 1:] = image.reshape(height, -1)
    data = zlib.compress(lines.tobytes(), PNG_LEVEL)
    return png_head(height, width, image.ndim) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def png_head(height: int, width: int, ndim: int) -> bytes:
    """How a PNG of ours begins: grey where ``ndim`` is 2, colours where it is 3."""
    colour = 2 if ndim == 3 else 0
    told = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", told)


def png_chunk(name: bytes, body: bytes) -> bytes:
    """A part of a PNG: its size, its name, what it holds, and their checksum."""
    named = name + body
    return struct.pack(">I", len(body)) + named + struct.pack(">I", zlib.crc32(named))


def coloured(values: Array) -> Array:
    """(height, width) numbers as (height, width, 3) uint8, dark is low; outliers are cut off."""
    held = np.nan_to_num(values.astype(np.float64), nan=0, posinf=0, neginf=0)
    low, high = np.percentile(held, [2, 98])
    place = np.clip((held - low) / max(high - low, 1e-9), 0, 1) * (len(COLOURS) - 1)
    place = np.round(place * SHADES) / SHADES
    points = np.arange(len(COLOURS))
    channels = [np.interp(place, points, COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=2).astype(np.uint8)
