"""Compressed files as streams of plain bytes: gzip by igzip, bzip2 on all cores."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import indexed_bzip2
from isal import igzip, igzip_threaded, isal_zlib

from pipeline.cores import usable_cores
from pipeline.errors import ArchiveError

CHUNK = 1 << 20
MAGIC_GZIP = b"\x1f\x8b"
MAGIC_BZIP2 = b"BZh"
# What igzip and indexed_bzip2 raise for bytes that are not theirs, or not all there.
DAMAGED: tuple[type[Exception], ...] = (
    EOFError,
    ValueError,
    RuntimeError,
    igzip.BadGzipFile,
    isal_zlib.error,  # type: ignore[assignment]
)


def compression(file: Path) -> str | None:
    """``"gzip"``, ``"bzip2"`` or None, told by the file's first bytes."""
    with file.open("rb") as handle:
        head = handle.read(3)
    if head.startswith(MAGIC_GZIP):
        return "gzip"
    return "bzip2" if head == MAGIC_BZIP2 else None


@contextlib.contextmanager
def stream(file: Path) -> Iterator[tuple[IO[bytes], Callable[[], int]]]:
    """A file's plain bytes as a stream, and how far into the file it has read.

    gzip is inflated in a thread of its own, ahead of whoever reads.
    """
    kind = compression(file)
    with contextlib.ExitStack() as stack:
        if kind == "bzip2":
            bz2 = stack.enter_context(
                indexed_bzip2.open(os.fspath(file), parallelization=usable_cores())
            )
            yield bz2, lambda: int(bz2.tell_compressed()) // 8
            return
        handle = stack.enter_context(file.open("rb"))
        if kind == "gzip":
            opened = igzip_threaded.open(handle, "rb", threads=1)  # type: ignore[no-untyped-call]
            yield stack.enter_context(opened), handle.tell
        else:
            yield handle, handle.tell


def chunks(file: Path, tick: Callable[[int], object]) -> Iterator[bytes]:
    """A file's plain bytes; ``tick`` is called with the file's bytes done since the last call.

    Raises:
        ArchiveError: the file is damaged or cut short.
    """
    reported = 0
    try:
        with stream(file) as (plain, position):
            while chunk := plain.read(CHUNK):
                yield chunk
                now = position()
                tick(now - reported)
                reported = now
    except DAMAGED as error:
        reason = str(error).replace("std::exception", "the data end too early")
        raise ArchiveError(f"{file}: can't be inflated, the archive is damaged: {reason}") from None
