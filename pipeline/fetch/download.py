"""``download``: from the first mirror that serves the pinned bytes, going on where it was lost.

What came stays in a part file; a lost connection, a later run and another mirror go on from there.
The bytes of different mirrors may be joined because the whole is pinned by its sha256: a wrong join
can't pass, it only costs one download from the beginning.
"""

import logging
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import OutputError, SourceError
from pipeline.fetch.partial import forget, origin_of, size_of
from pipeline.fetch.receiving import Target, receive, wrong
from pipeline.fetch.server import LaterError, RefusedError, ask, begins_at
from pipeline.fetch.verified import hashed
from pipeline.files import settle
from pipeline.manifest import Source

LOG = logging.getLogger(__name__)
WAITS = (1, 2, 4, 8, 16)  # seconds before each further round of mirrors after one without a byte


def download(source: Source, kept: Path, progress: bool) -> str:
    """Download to ``kept`` from the first mirror that serves the pinned bytes; their sha256 (hex).

    For the holder of the lock of ``kept`` alone.

    Raises:
        SourceError: no mirror served them; what came is kept for the next run.
        OutputError: not enough space for what is missing.
    """
    target = Target(source.file, source.bytes or 0, source.sha256 or "", kept, progress)
    _check_space(target)
    target.part.touch()
    reasons: dict[str, str] = {}
    hopeful, fruitless = list(source.urls), 0
    while hopeful:
        before, pause = size_of(target.part), 0.0
        for url in tuple(hopeful):
            try:
                return _from_mirror(url, target)
            except RefusedError as error:
                reasons[url] = str(error)
                hopeful.remove(url)
            except LaterError as error:
                pause = max(pause, error.seconds)
                if reasons.get(url) == str(error):  # a mirror that stays away is told of once
                    continue
                reasons[url] = str(error)
            LOG.warning("%s: %s", url, reasons[url])
        fruitless = 1 if size_of(target.part) > before else fruitless + 1
        if not hopeful or fruitless > len(WAITS):
            break
        time.sleep(max(pause, WAITS[fruitless - 1]))
    raise SourceError(_in_vain(source, target, reasons))


def _check_space(target: Target) -> None:
    folder = target.kept.parent
    missing, free = target.size - size_of(target.part), shutil.disk_usage(folder).free
    if missing > free:
        raise OutputError(
            f"{folder}: {target.file} needs {missing:,} bytes, {free:,} are free; "
            "make room or choose another --cache"
        )


def _in_vain(source: Source, target: Target, reasons: Mapping[str, str]) -> str:
    """The line that tells why no mirror helped, and how to go on; an empty part is removed."""
    tried = "; ".join(f"{url}: {reason}" for url, reason in reasons.items())
    message = f"{source.file}: could not be downloaded: {tried or 'the manifest names no URL'}; "
    there = size_of(target.part)
    if there:
        message += f"{there:,} of {target.size:,} bytes are kept, the same command goes on; or "
    else:
        target.part.unlink()
        forget(target.part)
    return f"{message}fetch it by hand and give it with --source {source.name}=FILE"


def _from_mirror(url: str, target: Target) -> str:
    """Complete the part from one mirror, verify it, give it its name; its sha256 (hex).

    Raises:
        RefusedError: this mirror has other bytes.
        LaterError: it may go better later.
    """
    afresh = False
    while True:
        at_once = _complete(url, target)
        digest = hashed(target.part, target.progress)
        if digest == target.sha256:
            settle(target.part, target.kept)
            forget(target.part)
            return digest
        if at_once or afresh:
            raise wrong(target, f"{target.size:,} with {digest}")
        # Pieces of several answers need not belong together: once more, all from this mirror.
        LOG.warning("%s: the joined pieces have a wrong sha256; once more from the start", url)
        os.truncate(target.part, 0)
        afresh = True


def _complete(url: str, target: Target) -> bool:
    """Bring the part to its pinned size; whether one answer brought all of it.

    A lost connection is taken up again for as long as each one brings new bytes.
    """
    at_once = False
    while (before := size_of(target.part)) < target.size:
        try:
            at_once = _request(url, target, before)
        except LaterError as error:
            there = size_of(target.part)
            if there <= before:
                raise
            LOG.warning("%s: %s; going on at byte %s", url, error, f"{there:,}")
            time.sleep(WAITS[0])
    return at_once


def _request(url: str, target: Target, start: int) -> bool:
    """Ask once, from byte ``start`` on, and write what comes; whether that was all of the file."""
    origin = origin_of(target.part)
    # Another mirror does not know this one's names of versions: there the hash alone decides.
    validator = origin.validator if origin.url == url else ""
    with ask(url, start, validator) as answer:
        first = begins_at(answer, start, target.size)
        if first is not None:
            receive(answer, url, target, first)
            return first == 0
    if start == 0:
        raise RefusedError(f"the server answered {answer.status_code} with another part")
    return _request(url, target, 0)  # its ranges can't be used
