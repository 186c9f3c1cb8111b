"""Makes the members of an archive addressable and reads them where they lie.

A compressed file is inflated once, into one plain file in the cache named by the hash of the
compressed one; a plain tar is used where it is. Members are never unpacked: a member is an offset
and a size in that file, so no path inside an archive can escape, and any number of workers map it
at once.
"""

import contextlib
import hashlib
import json
import mmap
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import indexed_bzip2
from isal import igzip, isal_zlib

from pipeline.errors import ArchiveError
from pipeline.files import sha256_of, write_json, written
from pipeline.records import Piece, Ref

CHUNK = 1 << 20
MAGIC_GZIP = b"\x1f\x8b"
MAGIC_BZIP2 = b"BZh"
MAGIC_TAR = b"ustar"
MAGIC_TAR_AT = 257
# What igzip and indexed_bzip2 raise for bytes that are not theirs, or not all there.
DAMAGED: tuple[type[Exception], ...] = (
    EOFError,
    ValueError,
    RuntimeError,
    igzip.BadGzipFile,
    isal_zlib.error,  # type: ignore[assignment]
)


@dataclass(frozen=True)
class Opened:
    """A source ready to be read in place: its plain file, and its members if it is a tar.

    ``members`` maps a member's name (without a leading ``./``) to (offset, size) in ``path``.
    """

    name: str
    path: Path
    size: int
    members: Mapping[str, tuple[int, int]]


def open_source(
    name: str, file: Path, sha256: str, cache: Path, tick: Callable[[int], object]
) -> Opened:
    """Make one verified file readable in place.

    Args:
        name: what the manifest calls the source.
        file: the verified file; gzip, bzip2, tar or anything else, told by its first bytes.
        sha256: the file's own hash; names the inflated copy, so a changed file is a new copy.
        cache: the cache's root.
        tick: called with the number of compressed bytes done since the last call.

    Raises:
        ArchiveError: the file is damaged; nothing half-inflated stays under the final name.
    """
    plain = plain_path(file, sha256, cache)
    if plain != file and not _is_sound(plain):
        _inflate_to(file, plain, tick)
    return Opened(name, plain, plain.stat().st_size, index(plain))


def plain_path(file: Path, sha256: str, cache: Path) -> Path:
    """Where a file's plain bytes lie, or will lie once it is inflated."""
    if not compression(file):
        return file
    return cache / "inflated" / f"{sha256[:16]}.plain"


def compression(file: Path) -> str | None:
    """``"gzip"``, ``"bzip2"`` or None, told by the file's first bytes."""
    with file.open("rb") as handle:
        head = handle.read(3)
    if head.startswith(MAGIC_GZIP):
        return "gzip"
    return "bzip2" if head == MAGIC_BZIP2 else None


@contextlib.contextmanager
def inflating(file: Path) -> Iterator[tuple[IO[bytes], Callable[[], int]]]:
    """A compressed file as a stream of plain bytes, and how far into the file it has read.

    gzip by igzip (twice zlib's speed), bzip2 by indexed_bzip2 on all cores.
    """
    with contextlib.ExitStack() as stack:
        if compression(file) == "gzip":
            handle = stack.enter_context(file.open("rb"))
            opened = igzip.open(handle, "rb")  # type: ignore[no-untyped-call]
            yield stack.enter_context(opened), handle.tell
        else:
            bz2 = stack.enter_context(indexed_bzip2.open(os.fspath(file), parallelization=0))
            yield bz2, lambda: int(bz2.tell_compressed()) // 8


def inflate(file: Path, write: Callable[[bytes], object], tick: Callable[[int], object]) -> None:
    """Hand a compressed file's plain bytes to ``write``, chunk by chunk.

    Raises:
        ArchiveError: the file is damaged or cut short.
    """
    reported = 0
    try:
        with inflating(file) as (stream, position):
            while chunk := stream.read(CHUNK):
                write(chunk)
                tick(position() - reported)
                reported = position()
    except DAMAGED as error:
        raise ArchiveError(f"{file}: can't be inflated, the archive is damaged: {error}") from None


def _inflate_to(file: Path, plain: Path, tick: Callable[[int], object]) -> None:
    """Inflate to ``plain``, whole or not at all, and note what was written."""
    digest, size = hashlib.sha256(), 0
    with written(plain) as temporary, temporary.open("wb") as out:

        def write(chunk: bytes) -> None:
            nonlocal size
            size += out.write(chunk)
            digest.update(chunk)

        inflate(file, write, tick)
    note = {"file": file.name, "sha256": digest.hexdigest(), **_stamp(plain)}
    write_json(_note(plain), note)


def _note(plain: Path) -> Path:
    return plain.with_name(plain.name + ".json")


def _stamp(plain: Path) -> dict[str, int]:
    stat = plain.stat()
    return {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _is_sound(plain: Path) -> bool:
    """Whether an inflated copy is what was written: by size and time, else by its hash."""
    try:
        note = json.loads(_note(plain).read_text())
        if _stamp(plain) == {key: note[key] for key in ("bytes", "mtime_ns")}:
            return True
        return bool(sha256_of(plain) == note["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def index(plain: Path) -> dict[str, tuple[int, int]]:
    """The regular members of a tar as name → (offset, size); empty for any other file.

    Raises:
        ArchiveError: a damaged header, a member that reaches beyond the file.
    """
    with plain.open("rb") as handle:
        head = handle.read(MAGIC_TAR_AT + len(MAGIC_TAR))
    if not head.endswith(MAGIC_TAR) or len(head) != MAGIC_TAR_AT + len(MAGIC_TAR):
        return {}
    members: dict[str, tuple[int, int]] = {}
    size = plain.stat().st_size
    try:
        with tarfile.open(plain, "r:") as tar:
            for member in tar:
                name = _name(member.name)
                if member.islnk():  # a second name of an earlier member
                    members[name] = members[_name(member.linkname)]
                if not member.isreg():
                    continue
                end = member.offset_data + member.size
                if member.issparse() or member.size < 0 or end > size:
                    raise ArchiveError(
                        f"{plain}: member {name} lies at bytes {member.offset_data} to {end} of "
                        f"{size}: the archive is cut short, sparse or damaged"
                    )
                if name in members:
                    raise ArchiveError(f"{plain}: member {name} stands twice: which is meant?")
                members[name] = (member.offset_data, member.size)
    except (tarfile.TarError, ValueError, OSError, KeyError) as error:
        raise ArchiveError(f"{plain}: not a whole tar archive: {error}") from None
    return members


def _name(name: str) -> str:
    """A member's name as text that can be stored, without a leading ``./``."""
    raw = name.encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "backslashreplace").removeprefix("./")


class Reader:
    """Reads the pieces of refs from mapped files; maps each file once, on first use."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)
        self._maps: dict[str, memoryview] = {}

    def piece(self, ref: Ref) -> Piece:
        """The bytes of a ref as a view of the map, nothing copied.

        Raises:
            ArchiveError: the ref lies outside its file.
        """
        whole = self._map(ref.source)
        stop = ref.offset + ref.size
        if ref.offset < 0 or ref.size < 0 or stop > len(whole):
            raise ArchiveError(
                f"{self._files[ref.source]}: bytes {ref.offset} to {stop} were asked for, "
                f"but the file has {len(whole)}"
            )
        return Piece(whole[ref.offset : stop], ref.start, ref.stop)

    def _map(self, source: str) -> memoryview:
        if source not in self._maps:
            with self._files[source].open("rb") as handle:
                if os.fstat(handle.fileno()).st_size == 0:
                    self._maps[source] = memoryview(b"")
                else:
                    mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
                    self._maps[source] = memoryview(mapped)
        return self._maps[source]
