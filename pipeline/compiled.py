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


def newest(source: Path, name: str) -> ctypes.CDLL | None:
    """Of the libraries ``<name>_any``, ``_v3`` and ``_v4`` the one for the newest instructions.

    That is, of those that this processor has, as ``level`` of the first tells. None without any.
    """
    library = compiled(source, f"{name}_any")
    level = library.level() if library else 0
    for needed in (3, 4):
        if level >= needed:
            library = compiled(source, f"{name}_v{needed}") or library
    return library
