"""Pictures as arrays and as the bytes of a PNG, made without a plotting library."""

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
# Five points of the colours that matplotlib calls viridis.
COLOURS = np.array([[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]])
SHADES = 16  # between two points: more are not told apart, and take a third more bytes


def as_png(image: Array) -> bytes:
    """(height, width) uint8 grey, or (height, width, 3) uint8 colours, as a PNG's bytes."""
    height, width = image.shape[:2]
    colour = 2 if image.ndim == 3 else 0
    lines = np.zeros((height, 1 + image[0].size), np.uint8)  # each begins with its filter: none
    lines[:, 1:] = image.reshape(height, -1)
    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(lines.tobytes(), 6)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def coloured(values: Array) -> Array:
    """(height, width) numbers as (height, width, 3) uint8, dark is low; outliers are cut off."""
    held = np.nan_to_num(values.astype(np.float64), nan=0, posinf=0, neginf=0)
    low, high = np.percentile(held, [2, 98])
    place = np.clip((held - low) / max(high - low, 1e-9), 0, 1) * (len(COLOURS) - 1)
    place = np.round(place * SHADES) / SHADES
    points = np.arange(len(COLOURS))
    channels = [np.interp(place, points, COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=2).astype(np.uint8)
