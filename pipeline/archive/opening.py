"""``open_source``: one verified file made readable in place, inflated and indexed once."""

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import xxhash

from pipeline.archive import members as index
from pipeline.archive.inflating import chunks, compression
from pipeline.archive.members import Members
from pipeline.archive.tar import Scan
from pipeline.errors import ArchiveError
from pipeline.files import alone, written

Tick = Callable[[int], object]
FLUSH_EVERY = 64 << 20


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


def open_source(
    name: str,
    file: Path,
    sha256: str,
    cache: Path,
    tick: Tick,
    prove: Callable[[], object] = lambda: None,
) -> Opened:
    """Make one file readable in place.

    Args:
        name: what the manifest calls the source.
        file: gzip, bzip2, tar or anything else, told by its first bytes.
        sha256: the file's own hash; names the inflated copy, so a changed file is a new copy.
        cache: the cache's root.
        tick: called with the number of the file's bytes done since the last call.
        prove: raises unless the file has that hash; waited for before anything made of the file
            is kept, so that hashing and inflating go on side by side.

    Raises:
        ArchiveError: the file is damaged; nothing half-inflated stays under the final name.
    """
    plain = plain_path(file, sha256, cache)
    noted = cache / "inflated" / f"{sha256[:16]}.index"
    found = _known(name, plain, noted)
    if not found:
        with alone(noted.with_suffix("")):
            found = _known(name, plain, noted)  # the process that we waited for made it
            if not found:
                return _newly(name, file, plain, noted, tick, prove)
    prove()
    return found


def _known(name: str, plain: Path, noted: Path) -> Opened | None:
    """The source as an earlier run left it, if its plain file is sound."""
    known = index.load(noted)
    if known and _is_sound(plain, known[1]):
        return Opened(name, plain, plain.stat().st_size, known[0])
    return None


def _newly(
    name: str, file: Path, plain: Path, noted: Path, tick: Tick, prove: Callable[[], object]
) -> Opened:
    """Inflate a source where it is compressed, and index it."""
    try:
        if plain == file:
            members, digest = _index(chunks(file, tick))
            prove()
        else:
            members, digest = _inflate(file, plain, tick, prove)
    except ArchiveError as error:
        prove()  # a file that is not the right one is no damaged one
        raise ArchiveError(str(error) if str(file) in str(error) else f"{file}: {error}") from None
    index.save(noted, members, {"file": file.name, "xxh3_128": digest, **_stamp(plain)})
    return Opened(name, plain, plain.stat().st_size, members)


def plain_path(file: Path, sha256: str, cache: Path) -> Path:
    """Where a file's plain bytes lie, or will lie once it is inflated."""
    if not compression(file):
        return file
    return cache / "inflated" / f"{sha256[:16]}.plain"


def _inflate(
    file: Path, plain: Path, tick: Tick, prove: Callable[[], object]
) -> tuple[Members, str]:
    """Inflate to ``plain``, whole or not at all; index and hash the bytes as they go by."""
    with written(plain) as temporary, temporary.open("wb", buffering=0) as out:

        def kept() -> Iterator[bytes]:
            unflushed, flushing = 0, []
            with ThreadPoolExecutor(1) as flusher:  # the disk works meanwhile, not at the end
                for chunk in chunks(file, tick):
                    out.write(chunk)
                    yield chunk
                    unflushed += len(chunk)
                    if unflushed >= FLUSH_EVERY:
                        flushing.append(flusher.submit(os.fsync, out.fileno()))
                        unflushed = 0
            for flushed in flushing:  # the system tells of bytes that it lost once, not twice
                flushed.result()

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
