"""The begin of a file that is being downloaded, and which version of the file it belongs to."""

import email.utils
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from pipeline.files import write_json


@dataclass(frozen=True)
class Origin:
    """Who sent the last bytes of a part.

    ``validator`` is what that server calls this version of the file, "" if it does not say so in a
    way to rely on.
    """

    url: str = ""
    validator: str = ""


def part_of(kept: Path) -> Path:
    """Where the begin of a download lies: under one name for all runs, so that the next goes on."""
    return kept.with_name(kept.name + ".part")


def size_of(part: Path) -> int:
    """Bytes that are there already."""
    return part.stat().st_size if part.is_file() else 0


def origin_of(part: Path) -> Origin:
    """The noted origin of a part; an empty one if there is no note, or none of ours."""
    try:
        noted = json.loads(_note(part).read_text(encoding="utf-8"))
        return Origin(str(noted["url"]), str(noted["validator"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Origin()


def note_origin(part: Path, origin: Origin) -> None:
    """Note who sends the next bytes of a part."""
    if origin_of(part) != origin:
        write_json(_note(part), asdict(origin))


def forget(part: Path) -> None:
    """Remove a part's note: the part is complete, or gone."""
    _note(part).unlink(missing_ok=True)


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def strong_validator(headers: Mapping[str, str]) -> str:
    """What may stand in ``If-Range``: RFC 9110, 13.1.5 and 8.8.2.2.

    A strong ETag; or a Last-Modified at least one second older than the answer's Date, for a file
    may change twice within one second. A weak ETag (``W/"…"``) promises no equal bytes.
    """
    etag = headers.get("ETag", "")
    if etag.startswith('"'):
        return etag
    modified = headers.get("Last-Modified", "")
    try:
        changed = email.utils.parsedate_to_datetime(modified)
        answered = email.utils.parsedate_to_datetime(headers.get("Date", ""))
        return modified if answered - changed >= timedelta(seconds=1) else ""
    except (ValueError, TypeError):  # no dates, or one with and one without a zone
        return ""
