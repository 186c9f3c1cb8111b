"""Files that are whole or absent: written beside their place, flushed, renamed; locks; and hashes.

Temporary names begin with a dot and end in ``.part``, so that whatever a killed run left behind can
be told and cleaned. What two processes may want to make at once has a lock ``.<name>.lock`` beside
it: hidden, empty, and left there, for a lock file that is removed while another process waits for
it locks nothing. The system releases a lock when its holder dies.
"""

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from filelock import BaseFileLock

CHUNK, PIECE = 1 << 20, 1 << 18
DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # no room, or no right
LOG = logging.getLogger(__name__)
CACHE = Path("~/.cache/shardwell")  # downloads, inflated archives, copies of remote datasets


@contextlib.contextmanager
def written(path: Path, *, flushed: bool = True) -> Iterator[Path]:
    """A temporary path to write to; it becomes ``path`` when the block ends without an error.

    What was written is flushed to the disk before it gets its name, so that a finished name never
    stands for half a file, not even after a power cut. The flushing may be left to ``flush`` only
    where a file is not trusted by its name: by its hash, or by another file that is written after
    it. The folder is made if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not the process's number: on a shared disk, two machines may have the same.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with _named(path):
            yield temporary
            if flushed:
                flush(temporary)
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Give errors of an open file its name, which they lack: a person needs to know the disk."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


class InPieces(io.FileIO):
    """A file whose writes are cut up: 16 MB at once took six times as long as 64 times 256 kB.

    Measured on Linux 6.18 with ext4, which takes memory for writes of 2 MB and more in huge pages.
    """

    def write(self, data: Any) -> int:
        """All of ``data``."""
        whole = memoryview(data).cast("B")
        for begin in range(0, len(whole), PIECE):
            piece = whole[begin : begin + PIECE]
            while len(piece):
                piece = piece[super().write(piece) :]
        return len(whole)


def flush(path: Path) -> None:
    """Wait until a file's bytes are on the disk."""
    with _named(path), path.open("rb+") as handle:
        os.fsync(handle.fileno())


def settle(temporary: Path, path: Path) -> None:
    """Flush a finished file to the disk and give it its name."""
    flush(temporary)
    temporary.replace(path)


def lock_of(path: Path) -> "BaseFileLock":
    """The lock of what is to be made at ``path``, which nobody holds yet."""
    from filelock import FileLock

    # Not of one thread: what is inflated is kept, and then freed, by another.
    return FileLock(path.with_name(f".{path.name}.lock"), thread_local=False)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock of what is to be made at ``path``; another process waits for its turn.

    Who comes in must look again: the process that it waited for may have made it. What killed runs
    left in that folder is removed first.
    """
    from filelock import Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = lock_of(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        LOG.warning("%s: another process is at work on it; waiting for its end", path)
        lock.acquire()
    try:
        sweep(path.parent, path.name)
        yield
    finally:
        lock.release()


def sweep(folder: Path, held: str) -> None:
    """Remove temporary files whose lock is held by us (``held``) or by nobody.

    Their writers hold the lock for as long as they write; so they are dead. The lock of
    ``x.tar`` is that of ``x`` where it has none of its own. What has no lock is somebody else's.
    """
    left: dict[str, list[Path]] = {}
    for file in folder.glob(".*.part"):
        name = file.name[1:].rsplit(".", 2)[0]
        while name and not (folder / f".{name}.lock").exists():
            name = name.rpartition(".")[0]
        left.setdefault(name, []).append(file)
    left.pop("", None)
    for name, temporaries in left.items():
        with contextlib.ExitStack() as stack:
            try:
                if name != held:
                    stack.enter_context(lock_of(folder / name).acquire(timeout=0))
            except OSError:  # filelock's Timeout is one: in use; or another user's
                continue
            for temporary in temporaries:
                temporary.unlink(missing_ok=True)


def write_json(path: Path, values: Mapping[str, Any], *, flushed: bool = True) -> None:
    """Write JSON, whole or not at all; NaN is refused."""
    with written(path, flushed=flushed) as temporary, temporary.open("w", encoding="utf-8") as out:
        json.dump(values, out, indent=1, ensure_ascii=False, allow_nan=False)
        out.write("\n")


@contextlib.contextmanager
def where_allowed() -> Iterator[None]:
    """Notes that only spare time are left out where nobody may write: a cache may be read-only."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise


def sha256_of(path: Path, tick: Callable[[int], object] = lambda done: None) -> str:
    """A file's sha256 (hex); ``tick`` is called with the bytes done since the last call."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
            tick(len(chunk))
    return digest.hexdigest()
