"""``open_source``: one verified file made readable in place, inflated and indexed once."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import xxhash

from pipeline.archive import members as index
from pipeline.archive.inflating import chunks, compression
from pipeline.archive.members import Members
from pipeline.archive.tar import Scan
from pipeline.errors import ArchiveError
from pipeline.files import written

Tick = Callable[[int], object]


@dataclass(frozen=True)
class Opened:
    """A source ready to be read in place: its plain file, and its members if it is a tar.

    ``members`` maps a member's name (without a leading ``./``) to (offset, size) in ``path``.
    """

    name: str
    path: Path
    size: int
    members: Mapping[str, tuple[int, int]]


def open_source(name: str, file: Path, sha256: str, cache: Path, tick: Tick) -> Opened:
    """Make one verified file readable in place.

    Args:
        name: what the manifest calls the source.
        file: the verified file; gzip, bzip2, tar or anything else, told by its first bytes.
        sha256: the file's own hash; names the inflated copy, so a changed file is a new copy.
        cache: the cache's root.
        tick: called with the number of the file's bytes done since the last call.

    Raises:
        ArchiveError: the file is damaged; nothing half-inflated stays under the final name.
    """
    plain = plain_path(file, sha256, cache)
    noted = cache / "inflated" / f"{sha256[:16]}.index"
    known = index.load(noted)
    if known and _is_sound(plain, known[1]):
        return Opened(name, plain, plain.stat().st_size, known[0])
    try:
        members, digest = _inflate(file, plain, tick) if plain != file else _scan(file, tick)
    except ArchiveError as error:
        raise ArchiveError(str(error) if str(file) in str(error) else f"{file}: {error}") from None
    index.save(noted, members, {"file": file.name, "xxh3_128": digest, **_stamp(plain)})
    return Opened(name, plain, plain.stat().st_size, members)


def plain_path(file: Path, sha256: str, cache: Path) -> Path:
    """Where a file's plain bytes lie, or will lie once it is inflated."""
    if not compression(file):
        return file
    return cache / "inflated" / f"{sha256[:16]}.plain"


def _inflate(file: Path, plain: Path, tick: Tick) -> tuple[Members, str]:
    """Inflate to ``plain``, whole or not at all; index and hash the bytes as they go by."""
    with written(plain) as temporary, temporary.open("wb", buffering=0) as out:

        def kept() -> Iterator[bytes]:
            for chunk in chunks(file, tick):
                out.write(chunk)
                yield chunk

        return _index(kept())


def _scan(file: Path, tick: Tick) -> tuple[Members, str]:
    """Index a plain file where it lies."""
    return _index(chunks(file, tick))


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
