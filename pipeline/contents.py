"""What lies in a cache folder, and cleaning it: nothing that is in use, nothing that is not ours.

Only names that shardwell gives are looked at, and no link is ever followed. Who makes a thing has
its lock, who reads it holds it (``pipeline/holding.py``); neither is ever removed. What is removed
can be made again, from the network or from the file that it was made of.
"""

import json
import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.files import lock_of
from pipeline.holding import unheld

KINDS = {
    "downloads": "files from the network",
    "generated": "files that recipes made",
    "inflated": "archives, inflated and indexed",
    "copies": "shards and datasets from stores and Hubs",
    "leftovers": "what killed runs left half done",
}
NOTES = "verified"  # which file was hashed when: a few bytes each, never cleaned
TEMPORARY = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.part")
DOWNLOAD = re.compile(r"(?P<name>[0-9a-f]{16}-.+?)(\.part|\.part\.json|\.bad)?")
INFLATED = re.compile(r"(?P<name>[0-9a-f]{16})\.(plain|index)")
STREAMED = re.compile(r"(?P<name>[a-z]+-\d{5,}-of-\d{5,}\.[0-9a-f]{64}\.arrow)")
FILES = {
    "downloads": ("downloads", DOWNLOAD),
    "generated": ("generated", re.compile(r"(?P<name>[0-9a-f]{16}-.+)")),
    "inflated": ("inflated", INFLATED),
    "streamed": ("copies", STREAMED),
}
FOLDERS = {
    "remote": ("copies", re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}")),
    "hub": ("copies", re.compile(r"[^./][^/]*/[^./][^/]*/[^./][^/]*-[0-9a-f]{8}")),
    "generated": ("leftovers", re.compile(r"[^./][^/]*-[0-9a-f]{8}")),  # of a Hub, cut off
    "publish": ("leftovers", re.compile(r"[^./][^/]*--[^/]+")),
    "scratch": ("leftovers", re.compile(r"[0-9a-f]{16}")),
}


@dataclass(frozen=True)
class Item:
    """One thing in a cache.

    Attributes:
        kind: of ``KINDS``.
        paths: its files, or its one folder.
        made: the path whose lock its makers have.
        about: what it is, for people.
        bytes: of all files.
        used: when it was read or written last, in seconds since 1970, as the file system knows it.
    """

    kind: str
    paths: tuple[Path, ...]
    made: Path
    about: str
    bytes: int
    used: float


def contents(cache: Path, sources: Mapping[str, str]) -> list[Item]:
    """Everything in a cache, in the order of its folders and names; nothing where there is none.

    ``sources`` tells what a source is: its sha256's first 16 digits, or its file's name → words.

    Raises:
        UsageError: the folder is no cache.
    """
    _check_is_cache(cache)
    items: list[Item] = []
    for folder, (kind, pattern) in FILES.items():
        items += _files(cache / folder, kind, pattern, sources)
    for folder, (kind, pattern) in FOLDERS.items():
        items += _folders(cache / folder, kind, pattern)
    return items


def clean(items: Collection[Item]) -> list[Item]:
    """Remove what nobody makes or reads; those that are gone now.

    Raises:
        OSError: something can't be removed.
    """
    return [item for item in items if _removed(item)]


def _removed(item: Item) -> bool:
    try:
        lock = lock_of(item.made).acquire(timeout=0)
    except OSError:  # filelock's Timeout is one: a run is at work on it; or another user's
        return False
    with lock, unheld(*item.paths) as free:
        if not free:
            return False
        for path in item.paths:
            if path.is_dir():
                (path / "dataset.json").unlink(missing_ok=True)  # half a dataset is none
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return True


def _check_is_cache(cache: Path) -> None:
    """Raise UsageError unless all that can be seen in the folder is a cache's."""
    if not cache.exists():
        return
    if not cache.is_dir():
        raise UsageError(f"{cache}: expected a cache folder, got a file")
    known = {*FILES, *FOLDERS, NOTES}
    for entry in sorted(cache.iterdir()):
        if entry.name not in known and not entry.name.startswith("."):
            raise UsageError(
                f"{cache}: expected a cache of shardwell, got a folder with {entry.name}; "
                "give the folder that prepare had as --cache"
            )


def _files(
    folder: Path, kind: str, pattern: re.Pattern[str], sources: Mapping[str, str]
) -> Iterator[Item]:
    """The items of a folder of files: those that belong together by name are one."""
    found: dict[str, list[Path]] = {}
    for path in _entries(folder):
        temporary, own = TEMPORARY.fullmatch(path.name), pattern.fullmatch(path.name)
        if temporary:
            inner = pattern.fullmatch(temporary["name"])
            made = folder / (inner["name"] if inner else temporary["name"])
            yield _item("leftovers", (path,), made, _about(made.name, sources))
        elif own:
            found.setdefault(own["name"], []).append(path)
    for name, paths in found.items():
        yield _item(kind, tuple(paths), folder / name, _about(name, sources))


def _about(name: str, sources: Mapping[str, str]) -> str:
    """What a file is: the source that its name says, else the name."""
    if STREAMED.fullmatch(name):
        return "shards of streams"
    digest, _, file = name.partition("-")
    source = sources.get(digest) or sources.get(file)
    return " ".join(filter(None, (source, file))) or name


def _folders(root: Path, kind: str, pattern: re.Pattern[str]) -> Iterator[Item]:
    """The items of a folder of folders, at the depth that the pattern has."""
    level = [root]
    for _ in range(pattern.pattern.count("]*/") + 1):
        level = [path for parent in level for path in _entries(parent) if path.is_dir()]
    for path in level:
        name = path.relative_to(root).as_posix()
        if pattern.fullmatch(name):
            yield _item(kind, (path,), path, _dataset(path) or name)


def _dataset(folder: Path) -> str:
    """The dataset of which a folder holds a copy, or nothing."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        info = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        return f"{info['recipe']['name']} {info['protocol']['name']} {info['features']['kind']}"
    return ""


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder, but no links: neither in it, nor is it one."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.is_symlink())


def _item(kind: str, paths: tuple[Path, ...], made: Path, about: str) -> Item:
    stats = [stat for path in paths for stat in _stats(path)]
    used = max((max(stat.st_atime, stat.st_mtime) for stat in stats), default=0.0)
    return Item(kind, paths, made, about, sum(stat.st_size for stat in stats), used)


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Of a file, or of all files in a folder; one that goes meanwhile is left out."""
    inner = [path]
    if path.is_dir():
        inner = [Path(at, name) for at, _, names in os.walk(path) for name in names]
    for file in inner:
        with suppress(FileNotFoundError):
            yield file.lstat()
