"""A bounded cache of verified shards, shared by all processes of a machine that stream.

A shard's file is named by the shard and its sha256, and has that name only once its rows are proven
to be those: datasets, and versions of one, share the folder and never meet. What was used longest
ago is removed when room is needed. Who has mapped it reads on, for the system keeps its bytes until
the map ends; who finds it gone fetches it again.

Each shard has a lock: its holder fetches or maps it, and meanwhile nobody removes it. Room is
reserved before the first byte comes, under one lock for all, by a file that has the shard's size
and takes no disk. What a killed process reserved or half fetched is swept when room is needed next.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RemoteError
from pipeline.files import lock_of, sweep
from pipeline.records import ShardInfo

ROOM = ".room.part"  # ends the name of a reservation
PAUSE = 0.01  # seconds until it is looked again whether others have finished


@dataclass(frozen=True)
class Cache:
    """Where shards of a dataset elsewhere are kept.

    Attributes:
        fetch: brings a shard to a path: verified and flushed, or not at all. Can be pickled.
        folder: may hold shards of other datasets, too.
        most: bytes that all shards in the folder may take, those that are being fetched included.
            At least one shard must fit.
        rebuilt: whether shards are written here: another version of Arrow than the dataset's may
            give a file of another size.
    """

    fetch: Callable[[Path, ShardInfo], None]
    folder: Path
    most: int
    rebuilt: bool = False


@contextlib.contextmanager
def held(cache: Cache, shard: ShardInfo) -> Iterator[Path]:
    """The file of a shard, fetched if it was not there; it is not removed before the block ends.

    Raises:
        DatasetError: the shard is missing at the URL, or is not what the dataset says.
        RemoteError: the store can't be read, or nothing can be written to the cache.
    """
    target = _place(cache, shard)
    with contextlib.ExitStack() as stack:
        try:
            cache.folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(lock_of(target).acquire(poll_interval=PAUSE))
            if not _is_whole(cache, target, shard):
                _fetch(cache, target, shard)
            _used(target, time.time_ns())
        except OSError as error:
            raise RemoteError(
                f"{cache.folder}: can't keep {shard.bytes:,} bytes of {shard.shard} here "
                f"({error.strerror or error}); choose another folder with cache="
            ) from None
        yield target


def touch(cache: Cache, shards: Sequence[ShardInfo]) -> None:
    """Have shards that will be used soon removed last, and the first of them last of all."""
    now = time.time_ns()
    for later, shard in enumerate(reversed(shards)):
        with contextlib.suppress(OSError):  # it isn't there, or is another user's
            _used(_place(cache, shard), now + later)


def _used(path: Path, when: int) -> None:
    """Note when a file was used, in ns: the system's own idea of now stays for milliseconds."""
    os.utime(path, ns=(when, when))


def _place(cache: Cache, shard: ShardInfo) -> Path:
    return cache.folder / f"{shard.shard}.{shard.sha256}.arrow"


def _is_whole(cache: Cache, target: Path, shard: ShardInfo) -> bool:
    return target.is_file() and (cache.rebuilt or target.stat().st_size == shard.bytes)


def _fetch(cache: Cache, target: Path, shard: ShardInfo) -> None:
    target.unlink(missing_ok=True)
    reservation = target.with_name(f".{target.name}{ROOM}")
    try:
        while not _reserved(cache, reservation, target.name, shard.bytes):
            time.sleep(PAUSE)
        cache.fetch(target, shard)
    finally:
        reservation.unlink(missing_ok=True)


def _reserved(cache: Cache, reservation: Path, held: str, size: int) -> bool:
    """Reserve so many bytes for a file whose lock we hold, unless others are at work on too much.

    They will have mapped it sometime, and then it can be removed.
    """
    with lock_of(cache.folder / "room").acquire(poll_interval=PAUSE):
        sweep(cache.folder, held)
        room = _shrunk(cache.folder, cache.most - size)
        if room:
            with reservation.open("wb") as file:
                file.truncate(size)
        return room


def _shrunk(folder: Path, most: int) -> bool:
    """Remove what was used longest ago until at most so many bytes are taken; whether that is so.

    Reservations are looked for first: one that has become a file since is counted as that.
    """
    reserved = {path.name: stat.st_size for path, stat in _found(folder, f".*{ROOM}")}
    files = sorted(_found(folder, "*.arrow"), key=lambda found: found[1].st_mtime_ns)
    for path, _ in files:
        reserved.pop(f".{path.name}{ROOM}", None)
    taken = sum(reserved.values()) + sum(stat.st_size for _, stat in files)
    for path, stat in files:
        if taken <= most:
            break
        with contextlib.suppress(TimeoutError), lock_of(path).acquire(timeout=0):
            path.unlink(missing_ok=True)
            taken -= stat.st_size
    return taken <= most


def _found(folder: Path, pattern: str) -> Iterator[tuple[Path, os.stat_result]]:
    for path in folder.glob(pattern):
        try:
            stat = path.stat()
        except FileNotFoundError:  # another process has just finished with it
            continue
        yield path, stat
