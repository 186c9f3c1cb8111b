"""What stops a build, each in one line: broken promises, bad clips, disks, foreign folders."""

import errno
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import BuildError, OutputError, lines
from pipeline.manifest import NOISE
from pipeline.plan import Plan
from pipeline.prepare.request import Resolved

BAD_CLIPS_SHOWN = 20
DISK_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
)


def check_promises(resolved: Resolved, rows: Mapping[str, int]) -> None:
    """Raise BuildError unless every split has the number of examples that was promised.

    A split that no promise names is told, too: its promise may have been lost; and one without any
    example, whose number nobody has pinned: its rule leaves it empty. Anybody's data may lack any.
    """
    for split in rows.keys() - resolved.promised.keys() - {NOISE}:
        raise BuildError(
            f"{resolved.recipe.name} {resolved.protocol.name}: {split} holds {rows[split]:,} "
            f"examples, which the manifest promises nowhere; add {split} = {rows[split]} or "
            f'"unpinned" to its splits'
        )
    for split, promised in resolved.promised.items():
        found = rows.get(split, 0)
        missing = promised is None and not found and resolved.protocol.splits[split] != 0
        if missing and not resolved.recipe.foreign:
            params = ", ".join(f"{k}={v}" for k, v in resolved.params.items()) or "no parameters"
            raise BuildError(
                f"{resolved.recipe.name} {resolved.protocol.name}: {split} is left without any "
                f"example by its split rule ({params}); change --params, or take a protocol "
                f"without {split}"
            )
        if promised is not None and found != promised:
            raise BuildError(
                f"{resolved.recipe.name} {resolved.protocol.name}: {split} should hold "
                f"{promised:,} examples, got {found:,}; "
                "a subset needs a manifest of its own (--manifest)"
            )


def bad_clips(findings: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The clips that were left out; the other findings are only odd."""
    return [finding for finding in findings if finding["left_out"]]


def check_bad_clips(findings: Sequence[Mapping[str, Any]], allowed: int) -> None:
    """Raise BuildError if there are more bad clips than are allowed; it names them."""
    bad = bad_clips(findings)
    if len(bad) <= allowed:
        return
    shown = [
        f"{clip['key']}: {clip['reason']} (source {clip['source']}, "
        f"bytes {clip['offset']} to {clip['offset'] + clip['size']})"
        for clip in bad[:BAD_CLIPS_SHOWN]
    ]
    if len(bad) > BAD_CLIPS_SHOWN:
        shown.append(f"… and {len(bad) - BAD_CLIPS_SHOWN} more")
    count = f"{len(bad)} bad clip{'s' * (len(bad) > 1)}"
    head = f"{count}, {allowed} allowed; leave them out with --max-bad {len(bad)}:"
    raise BuildError(lines(head, *shown))


def check_space(folder: Path, plan: Plan) -> None:
    """Raise OutputError if the disk has no room for the shards that are still to be written."""
    there = sum(path.stat().st_size for path in folder.glob("[!.]*.arrow"))
    free = shutil.disk_usage(folder).free
    if plan.nbytes - there > free:
        raise OutputError(
            f"{folder}: the shards need about {plan.nbytes - there:,} bytes more, {free:,} are "
            "free; make room or choose another --out"
        )


@contextmanager
def disk_errors_in_one_line() -> Iterator[None]:
    """A full or read-only disk is the person's to mend: one line, not a traceback."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise OutputError(
            f"{error.filename or 'the disk'}: {os.strerror(error.errno)}; what is finished is "
            "kept: mend that, or choose another --out or --cache, and run the command again"
        ) from None
