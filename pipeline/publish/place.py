"""Where a dataset lies on a Hub: ``[hf://datasets/]user/name[@revision][:config]``."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

from pipeline.errors import UsageError

PREFIX = "hf://datasets/"
PLACE = re.compile(
    r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
    r"(?:@(?P<revision>[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)*))?"
    r"(?::(?P<config>[A-Za-z0-9][\w.-]*))?",
    re.ASCII,
)


@dataclass(frozen=True)
class Place:
    """A repository, and the revision and config in it; None for the Hub's own choice."""

    repository: str
    revision: str | None = None
    config: str | None = None


def is_on_hub(where: str | Path) -> TypeGuard[str]:
    """Whether this is the URL of a published dataset.

    One with a folder in the repository, ``hf://datasets/user/name/folder``, is not: there, as at
    any other URL, lie shards as they were sealed.
    """
    if not isinstance(where, str) or not where.startswith(PREFIX):
        return False
    repository = re.split("[@:]", where.removeprefix(PREFIX), maxsplit=1)[0]
    return repository.count("/") < 2


def parse_place(text: str) -> Place:
    """Read a place.

    Raises:
        UsageError: it is none.
    """
    found = PLACE.fullmatch(text.removeprefix(PREFIX))
    if not found or ".." in text:
        raise UsageError(f"{text!r}: expected user/name[@revision][:config]")
    return Place(found["repository"], found["revision"], found["config"])
