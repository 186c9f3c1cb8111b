"""``open_source``: one verified file made readable in place, inflated and indexed once."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import xxhash

from pipeline.archive import members as index
from pipeline.archive.inflating import chunks, compression
from pipeline.archive.members import Members
from pipeline.archive.tar import Scan
from pipeline.errors import ArchiveError
from pipeline.files import InPieces, alone, flush, written

Tick = Callable[[int], object]
Work = Callable[[], None]


@dataclass(frozen=True)
class Opened:
    """A source ready to be read in place: its plain file, and its members if it is a tar.

    ``members`` maps a member's name (without a leading ``./``) to (offset, size) in ``path``. The
    members of a folder, ``loose``, are files in ``path``, each to be read from its own beginning.
    """

    name: str
    path: Path
    size: int
    members: Mapping[str, tuple[int, int]]
    loose: bool = False


def at_once(work: Work) -> None:
    """Do it now."""
    work()


def open_source(
    name: str,
    file: Path,
    sha256: str,
    cache: Path,
    tick: Tick,
    prove: Callable[[], object] = lambda: None,
    later: Callable[[Work], object] = at_once,
) -> Opened:
    """Make one file readable in place.

    What was inflated is kept for the next run once it is on the disk and its index is written. That
    wait is handed to ``later``, so that shards can be built meanwhile. Until it is over the source
    stays locked: another process that wants the same waits, too, and does not inflate it again.

    Args:
        name: what the manifest calls the source.
        file: gzip, bzip2, tar or anything else, told by its first bytes.
        sha256: the file's own hash; names the inflated copy, so a changed file is a new copy.
        cache: the cache's root.
        tick: called with the number of the file's bytes done since the last call.
        prove: raises unless the file has that hash; waited for before anything made of the file
            is kept, so that hashing and inflating go on side by side.
        later: takes the work that makes it kept, to be done in any thread; it raises OSError.

    Raises:
        ArchiveError: the file is damaged; nothing half-inflated stays under the final name.
    """
    plain, noted = plain_path(file, sha256, cache), _index_path(sha256, cache)
    found = _known(name, plain, noted, sha256)
    if not found:
        with contextlib.ExitStack() as lock:
            lock.enter_context(alone(noted.with_suffix("")))
            found = _known(name, plain, noted, sha256)  # the process that we waited for made it
            if not found:
                members, digest = _newly(file, plain, tick, prove)
                note = {"file": file.name, "xxh3_128": digest, **_stamp(plain)}
                note |= {"sha256": sha256, "packed": str(file.stat().st_size)}
                unflushed = None if plain == file else plain
                later(partial(_keep, lock.pop_all(), unflushed, noted, members, note))
                return Opened(name, plain, plain.stat().st_size, members)
    prove()
    return found


def _known(name: str, plain: Path, noted: Path, sha256: str) -> Opened | None:
    """The source as an earlier run left it, if its plain file is sound."""
    known = index.load(noted)
    if known and known[1].get("sha256") == sha256 and _is_sound(plain, known[1]):
        return Opened(name, plain, plain.stat().st_size, known[0])
    return None


def _newly(file: Path, plain: Path, tick: Tick, prove: Callable[[], object]) -> tuple[Members, str]:
    """Inflate a source where it is compressed, and index it: its members and its bytes' hash."""
    try:
        if plain != file:
            return _inflate(file, plain, tick, prove)
        found = _index(chunks(file, tick))
        prove()
    except ArchiveError as error:
        prove()  # a file that is not the right one is no damaged one
        raise ArchiveError(str(error) if str(file) in str(error) else f"{file}: {error}") from None
    return found


def _keep(
    lock: contextlib.ExitStack,
    unflushed: Path | None,
    noted: Path,
    members: Members,
    note: Mapping[str, str],
) -> None:
    """Wait until what was inflated is on the disk; then write its index, and let others in."""
    with lock:
        if unflushed:
            flush(unflushed)
        index.save(noted, members, note)


def plain_path(file: Path, sha256: str, cache: Path) -> Path:
    """Where a file's plain bytes lie, or will lie once it is inflated."""
    return _inflated_path(sha256, cache) if compression(file) else file


def inflated_before(sha256: str, cache: Path, packed: int | None = None) -> Path | None:
    """The plain file of a compressed one of that hash (hex) if it is there and sound.

    It is all that is ever read: the compressed file itself may be gone. ``packed`` is the size in
    bytes that it must have had.
    """
    plain, known = _inflated_path(sha256, cache), index.load(_index_path(sha256, cache))
    if not known or known[1].get("sha256") != sha256 or not _is_sound(plain, known[1]):
        return None
    return plain if packed is None or known[1].get("packed") == str(packed) else None


def _inflated_path(sha256: str, cache: Path) -> Path:
    return cache / "inflated" / f"{sha256[:16]}.plain"


def _index_path(sha256: str, cache: Path) -> Path:
    return cache / "inflated" / f"{sha256[:16]}.index"


def _inflate(
    file: Path, plain: Path, tick: Tick, prove: Callable[[], object]
) -> tuple[Members, str]:
    """Inflate to ``plain``; index and hash the bytes as they go by.

    It has its name before it is on the disk: without its index nobody takes it for whole. One that
    has none, or is damaged, makes room first.
    """
    plain.unlink(missing_ok=True)
    with written(plain, flushed=False) as temporary:
        with InPieces(temporary, "wb") as out:

            def kept() -> Iterator[bytes]:
                for chunk in chunks(file, tick):
                    out.write(chunk)
                    yield chunk

            found = _index(kept())
        prove()
    return found


def _index(plain: Iterator[bytes]) -> tuple[Members, str]:
    scan, digest = Scan(), xxhash.xxh3_128()
    for chunk in plain:
        digest.update(chunk)
        scan.feed(chunk)
    scan.finish()
    return index.of_scan(scan), digest.hexdigest()


def _stamp(plain: Path) -> dict[str, str]:
    stat = plain.stat()
    return {"bytes": str(stat.st_size), "mtime_ns": str(stat.st_mtime_ns)}


def _is_sound(plain: Path, note: Mapping[str, str]) -> bool:
    """Whether a plain file is what was indexed: by size and time, else by its hash."""
    try:
        if all(note.get(key) == value for key, value in _stamp(plain).items()):
            return True
        digest = xxhash.xxh3_128()
        for chunk in chunks(plain, lambda done: None):
            digest.update(chunk)
    except OSError:
        return False
    return digest.hexdigest() == note.get("xxh3_128")
