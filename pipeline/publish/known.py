"""What was found on a Hub before, for when it need not or can not be asked again."""

import contextlib
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pipeline.errors import DatasetError, UnreachableError
from pipeline.files import write_json
from pipeline.hub import client
from pipeline.publish.place import Place, parse_place
from pipeline.publish.published import COMMIT, Published, find, parse_published

LOG = logging.getLogger(__name__)
T = TypeVar("T")


def note_of(place: Place, cache: Path, what: str) -> Path:
    """The file in a cache that notes what a place on the Hub of this process was found to be."""
    named = (client(None).endpoint, place.revision, place.config)
    version = hashlib.sha256(json.dumps(named).encode()).hexdigest()[:16]
    return cache / "hub" / place.repository / f".{version}.{what}"


def known_or(place: Place, known: T | None, ask: Callable[[], T]) -> T:
    """What ``ask`` finds on the Hub, or what is known where that is as good.

    A commit (``@`` and its 40 hex digits) never changes: the Hub is not asked. Of a branch or tag
    what was found last is taken where the Hub does not answer, which is said.
    """
    if known is not None and COMMIT.fullmatch(place.revision or ""):
        return known
    try:
        return ask()
    except UnreachableError as error:
        if known is None:
            raise
        LOG.warning("%s; opened what was found there last", error)
        return known


def find_known(where: str, cache: Path) -> Published:
    """``find``, or what it found before: shards that a cache holds need no Hub.

    Raises:
        as ``find``.
    """
    place = parse_place(where)
    note = note_of(place, cache, "found.json")

    def ask() -> Published:
        found = find(where)
        told = {"commit": found.commit, "config": found.config.name, "data": found.data.decode()}
        with contextlib.suppress(OSError):  # it spares a question, no more
            write_json(note, told)
        return found

    return known_or(place, _noted(note, place), ask)


def _noted(note: Path, place: Place) -> Published | None:
    """What was noted, checked as if the Hub had said it; None if nothing was, or it is damaged."""
    try:
        told = json.loads(note.read_text(encoding="utf-8"))
        data = told["data"].encode()
        endpoint = client(None).endpoint
        return parse_published(endpoint, place, str(told["commit"]), str(told["config"]), data)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DatasetError):
        return None
