"""The body of an answer, written into the part file where it belongs."""

import os
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import requests

from pipeline.fetch.bars import byte_bar
from pipeline.fetch.partial import Origin, forget, note_origin, origin_of, part_of, strong_validator
from pipeline.fetch.server import LaterError, RefusedError, length_of
from pipeline.fetch.verified import is_html, looks_like, set_aside

PIECE = 1 << 16  # bytes; what a lost connection loses at most


@dataclass(frozen=True)
class Target:
    """What is downloaded, pinned by its size in bytes and sha256 (hex), and where it is to lie."""

    file: str
    size: int
    sha256: str
    kept: Path
    progress: bool

    @property
    def part(self) -> Path:
        """Where its begin lies."""
        return part_of(self.kept)


def receive(answer: requests.Response, url: str, target: Target, start: int) -> None:
    """Write an answer that begins at byte ``start`` into the part, up to the pinned size.

    What can be told before the first byte is written leaves the part as it is. A file from the
    beginning is written over a part without cutting that first: if its bytes are the same and the
    connection is lost again, nothing of the part is lost.

    Raises:
        RefusedError: it is an HTML page, or of another size.
        LaterError: it ended too early.
    """
    length, whole = length_of(answer), answer.status_code == 200
    encoded = answer.headers.get("Content-Encoding", "identity").lower() != "identity"
    # Some servers call a .gz file gzip-encoded by its name; its length tells that it is the file.
    decode = encoded and whole and length != target.size
    pieces = answer.raw.stream(PIECE, decode_content=decode)
    first = next(pieces, b"")
    if whole and is_html(first) and not target.file.endswith((".html", ".htm")):
        raise RefusedError("expected the file, got an HTML page")
    if whole and not decode and length not in (None, target.size):
        raise RefusedError(f"expected {target.size:,} bytes, its file has {length:,}")
    _note_version(answer, url, target, whole)
    at = start
    try:
        with (
            target.part.open("rb+") as out,
            byte_bar(target.file, target.size, target.progress, start) as bar,
        ):
            out.seek(start)
            for piece in chain([first], pieces):
                at += len(piece)
                if at > target.size:
                    break
                out.write(piece)
                bar.update(len(piece))
    except OSError as error:
        error.filename = error.filename or str(target.part)  # a full disk does not say which
        raise
    if at > target.size:
        raise wrong(target, f"more than {target.size:,}")
    # An answer in chunks has an end of its own, and so has a compressed one: it was not lost.
    if at < target.size and whole and (decode or answer.raw.chunked):
        raise wrong(target, f"{at:,}")
    if at < target.size:
        raise LaterError(f"the answer ended at byte {at:,} of {target.size:,}")


def _note_version(answer: requests.Response, url: str, target: Target, whole: bool) -> None:
    """Note whose bytes follow; a part of an older version on the same server is dropped."""
    before, now = origin_of(target.part), Origin(url, strong_validator(answer.headers))
    if whole and before.url == url and before.validator and before != now:
        os.truncate(target.part, 0)
    note_origin(target.part, now)


def wrong(target: Target, got: str) -> RefusedError:
    """What to raise for wrong bytes; they are set aside, for a person to look at."""
    what = looks_like(target.part)
    bad = set_aside(target.part, target.kept)
    forget(target.part)
    target.part.touch()
    return RefusedError(
        f"expected {target.size:,} bytes with sha256 {target.sha256}, got {got}{what}; "
        f"kept as {bad}"
    )
