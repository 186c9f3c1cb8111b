"""Holding files and folders of a cache, so that nobody cleans them away while they are read.

A hold is a shared lock of the system on the file or folder itself. It needs no file beside it and
no permission to write, and it ends with the process. On a file system without such locks nothing is
held; on Windows an open file can't be removed anyway.
"""

import contextlib
import errno
import os
import weakref
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def holding(*paths: Path) -> Iterator[None]:
    """Nobody cleans these away before the block ends.

    Raises:
        FileNotFoundError: somebody just did.
    """
    with contextlib.ExitStack() as stack:
        for path in paths:
            stack.callback(os.close, _held(path))
        yield


def hold_for(owner: object, path: Path) -> None:
    """Nobody cleans ``path`` away for as long as ``owner`` lives.

    Raises:
        FileNotFoundError: somebody just did.
    """
    weakref.finalize(owner, os.close, _held(path))


def _held(path: Path) -> int:
    if os.name != "posix":
        return os.open(os.devnull, os.O_RDONLY)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            _lock(descriptor, alone=False)
        if not _is_at(descriptor, path):
            raise FileNotFoundError(errno.ENOENT, "was cleaned away meanwhile", str(path))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the path still names the file that was opened."""
    return os.path.samestat(os.fstat(descriptor), path.stat())


@contextlib.contextmanager
def unheld(*paths: Path) -> Iterator[bool]:
    """Whether nobody holds any of these; if so, nobody can before the block ends."""
    if os.name != "posix":
        yield True
        return
    with contextlib.ExitStack() as stack:
        try:
            for path in paths:
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
                stack.callback(os.close, descriptor)
                _lock(descriptor, alone=True)
            free = True
        except OSError:  # somebody holds it, or it can't be known
            free = False
        yield free


def _lock(descriptor: int, alone: bool) -> None:
    import fcntl

    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    # Whoever cleans is done in a moment; nobody waits for a reader.
    fcntl.flock(descriptor, kind | fcntl.LOCK_NB if alone else kind)
