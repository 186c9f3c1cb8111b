"""Files held against their pins, hashed once, made by one process at a time."""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.archive import Members
from pipeline.errors import SourceError
from pipeline.fetch.bars import byte_bar
from pipeline.files import alone, sha256_of, where_allowed, write_json
from pipeline.manifest import Source

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Verified:
    """A file at hand whose sha256 (hex) is known.

    ``prove`` raises SourceError unless the file has it. It is to be called before anything that was
    made of the file is kept; for most files it was done already. Where ``path`` is a folder,
    ``members`` says which of its files are meant, and ``sha256`` is made of theirs.
    """

    path: Path
    sha256: str
    prove: Callable[[], object] = lambda: None
    members: Members | None = None


def made_once(
    source: Source, kept: Path, cache: Path, make: Callable[[str], object], progress: bool
) -> Verified:
    """The verified file at ``kept``, made there if need be; two processes share one making.

    A file that is there already is found without a lock: a cache may be read-only. A bad one is set
    aside.

    Args:
        source: what must be there.
        kept: where it must be.
        cache: the cache's root.
        make: makes the file at ``kept``; is told what was wrong with the one there, or "".
        progress: show a bar.

    Raises:
        SourceError: what was made is not what the source pins.
    """
    if kept.is_file():
        try:
            return check(source, kept, cache, progress)
        except SourceError:
            pass  # perhaps another process is at it: judge it again with the lock in hand
    with alone(kept):
        wrong = ""
        if kept.is_file():
            try:
                return check(source, kept, cache, progress)
            except SourceError as error:
                wrong = f"{error}; set aside as {set_aside(kept, kept).name}"
                LOG.warning("%s", wrong)
        make(wrong)
        return check(source, kept, cache, progress)


def check(source: Source, path: Path, cache: Path, progress: bool) -> Verified:
    """Check a file's size and sha256 against the source's pins.

    Raises:
        SourceError: with what was expected and what was there.
    """
    check_size(source, path)
    digest = _sha256(path, cache, progress)
    if source.sha256 is not None and digest != source.sha256:
        raise SourceError(
            f"{path}: expected sha256 {source.sha256}, got {digest}{looks_like(path)}; "
            "is it the file that the manifest means?"
        )
    return Verified(path, digest)


def check_size(source: Source, path: Path) -> None:
    """Check a file's size against the source's pin, which costs nothing.

    Raises:
        SourceError: with what was expected and what was there.
    """
    size = path.stat().st_size
    if source.bytes is not None and size != source.bytes:
        raise SourceError(
            f"{path}: expected {source.bytes:,} bytes, got {size:,}{looks_like(path)}; "
            "is it the file that the manifest means?"
        )


def set_aside(path: Path, kept: Path) -> Path:
    """Rename a bad file to ``<name it should have>.bad``; it is never taken for a good one."""
    return path.rename(kept.with_name(kept.name + ".bad"))


def is_html(head: bytes) -> bool:
    """Whether a file's first bytes are those of a web page."""
    return head[:64].lstrip().lower().startswith((b"<!doctype html", b"<html"))


def looks_like(path: Path) -> str:
    """A remark on what a wrong file seems to be, or nothing."""
    with path.open("rb") as handle:
        return " (it is an HTML page)" if is_html(handle.read(64)) else ""


def hashed(path: Path, progress: bool) -> str:
    """A file's sha256 (hex), with a bar."""
    with byte_bar(f"checking {path.name}", path.stat().st_size, progress) as bar:
        return sha256_of(path, bar.update)


def remember(path: Path, sha256: str, cache: Path) -> None:
    """Note that a file, as it is now, has this hash."""
    write_json(_note(path, cache), _stamp(path) | {"sha256": sha256})


def _sha256(path: Path, cache: Path, progress: bool) -> str:
    """A file's sha256, from memory where path, size and modification time are the same."""
    stamp = _stamp(path)
    try:
        known = json.loads(_note(path, cache).read_text())
        if {k: known[k] for k in stamp} == stamp:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass  # no note, or not one of ours: hash the file
    digest = hashed(path, progress)
    with where_allowed():
        write_json(_note(path, cache), stamp | {"sha256": digest})
    return digest


def _note(path: Path, cache: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
    return cache / "verified" / f"{name}.json"


def _stamp(path: Path) -> dict[str, str | int]:
    stat = path.stat()
    return {"path": str(path), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
