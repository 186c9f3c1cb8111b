"""A file's bytes as an array, mapped without holding a file descriptor.

Python's own ``mmap`` keeps a descriptor for each map, and a process may have no more than 1,024 of
them on many machines: fewer than a dataset may have shards.
"""

import ctypes
import mmap
import os
import weakref
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]


def mapped(path: Path) -> Bytes:
    """The bytes of a file, (size,) uint8.

    The map is private: whoever writes into it changes their own process's copy, never the file. It
    ends with the last array that views it.

    Raises:
        OSError: the file can't be opened or mapped.
        ValueError: the file is empty.
    """
    with path.open("rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        if not size:
            raise ValueError("it is empty")
        if os.name != "posix":
            return np.frombuffer(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
        protection = mmap.PROT_READ | mmap.PROT_WRITE
        address = _libc().mmap(None, size, protection, mmap.MAP_PRIVATE, handle.fileno(), 0)
    if address == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    held = (ctypes.c_uint8 * size).from_address(address)
    weakref.finalize(held, _libc().munmap, address, size).atexit = False
    return np.frombuffer(memoryview(held), np.uint8)


@cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    integer, pointer = ctypes.c_int, ctypes.c_void_p
    library.mmap.argtypes = [pointer, ctypes.c_size_t, integer, integer, integer, ctypes.c_long]
    library.munmap.argtypes = [pointer, ctypes.c_size_t]
    return library
