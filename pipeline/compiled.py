"""Libraries that ``hatch_build.py`` compiled beside their C source, loaded with ctypes."""

import ctypes
import zlib
from pathlib import Path


def compiled(source: Path, name: str) -> ctypes.CDLL | None:
    """The library ``name`` that was compiled from a C file, from the folder it lies in.

    None where there is none, or one for another system or of another version of the source: the
    source's own hash is in the library.
    """
    for path in source.parent.glob(f"{name}.*"):
        try:
            library = ctypes.CDLL(str(path))
            _ = library.abi
        except (OSError, AttributeError):
            continue
        library.abi.restype = ctypes.c_uint32
        if library.abi() == zlib.crc32(source.read_bytes()):
            return library
    return None
