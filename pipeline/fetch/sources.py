"""``fetch`` and ``generate``: the verified file of a source, wherever it comes from."""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.archive import inflated_before
from pipeline.errors import SourceError
from pipeline.fetch.bars import spinner
from pipeline.fetch.partial import part_of, size_of
from pipeline.fetch.verified import Verified, check, check_size, made_once, remember
from pipeline.files import written
from pipeline.manifest import Source

Generator = Callable[[Path], None]


def fetch(
    source: Source, cache: Path, given: Path | None, offline: bool, progress: bool
) -> Verified:
    """The file of a source from outside: the given one, the cached one, or a download.

    A given file is still to be proven, which takes a second for every gigabyte. Where the file
    itself is not in the cache its inflated copy will do.

    Raises:
        SourceError: nowhere to be had, or not the pinned bytes.
        OutputError: not enough space for the download.
    """
    kept = _kept(source, cache)
    # What is given or kept comes first: an inflated copy that was touched must be hashed.
    plain = None if (given or kept).exists() else _inflated(source, cache)
    if plain:
        return Verified(plain, source.sha256 or "", partial(_check_inflated, source, plain, cache))
    if given is not None:
        if not given.is_file():
            raise SourceError(f"--source {source.name}={given}: expected a file, got none there")
        path = given.resolve()
        check_size(source, path)
        return Verified(path, source.sha256 or "", partial(check, source, path, cache, False))

    def make(wrong: str) -> None:
        # requests takes as long to load as all the rest: only where something must be downloaded.
        from pipeline.fetch.download import download

        if offline:
            raise SourceError(wrong or _forbidden(source, kept))
        remember(kept, download(source, kept, progress), cache)

    if offline and not kept.is_file():
        raise SourceError(_forbidden(source, kept))
    return made_once(source, kept, cache, make, progress)


def _inflated(source: Source, cache: Path) -> Path | None:
    return inflated_before(source.sha256 or "", cache, source.bytes)


def _check_inflated(source: Source, plain: Path, cache: Path) -> None:
    """Raise SourceError unless an inflated copy is still what it was."""
    if _inflated(source, cache) != plain:
        raise SourceError(f"{plain}: it was changed meanwhile; run again")


def _forbidden(source: Source, kept: Path) -> str:
    return (
        f"{source.file} is not in {kept.parent} and --offline forbids a download; "
        f"bring it with --source {source.name}=FILE"
    )


def at_hand(source: Source, cache: Path, given: Path | None, progress: bool) -> Verified | None:
    """The verified file of a source if it is given or in the cache; nothing is downloaded."""
    there = _kept(source, cache).is_file() or _inflated(source, cache)
    if given is None and not there:
        return None
    found = fetch(source, cache, given, offline=True, progress=progress)
    found.prove()
    return found


def still_missing(source: Source, cache: Path) -> int:
    """Bytes of a source that are still to be downloaded where it is not at hand."""
    return max(0, (source.bytes or 0) - size_of(part_of(_kept(source, cache))))


def _kept(source: Source, cache: Path) -> Path:
    return cache / "downloads" / f"{(source.sha256 or '')[:16]}-{source.file}"


def generate(
    source: Source, cache: Path, key: Mapping[str, Any], make: Generator, progress: bool
) -> Verified:
    """The file of a generated source: the cached one, or newly made by ``make(path)``.

    ``key`` is everything that decides the bytes (recipe, version, parameters).
    """
    kept = generated_path(source, cache, key)

    def write(wrong: str) -> None:
        with written(kept) as temporary, spinner(f"making {source.file}", progress):
            make(temporary)

    return made_once(source, kept, cache, write, progress)


def generated_path(source: Source, cache: Path, key: Mapping[str, Any]) -> Path:
    """Where a generated file lies, or will lie."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache / "generated" / f"{digest[:16]}-{source.file}"
