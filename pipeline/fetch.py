"""Brings a manifest's sources to disk, verified.

Every file is checked against its pinned size and sha256, also one that was already there. A file
once verified is remembered by path, size and modification time, so that it is not hashed at every
run. Layout of the cache:

    downloads/<16 hex of sha256>-<file>      verified downloads
    generated/<16 hex of parameters>-<file>  files that recipes make
    verified/<16 hex of path>.json           what was hashed when
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline.errors import OutputError, SourceError
from pipeline.files import CHUNK, sha256_of, write_json, written
from pipeline.manifest import Source

TIMEOUT = (10, 60)  # seconds to connect, and between two reads
Generator = Callable[[Path], None]


@dataclass(frozen=True)
class Verified:
    """A file at hand whose sha256 (hex) is known."""

    path: Path
    sha256: str


def quiet(progress: bool) -> bool | None:
    """Tqdm's ``disable``: bars are for a person at a terminal, never for a log file."""
    return None if progress else True


def byte_bar(what: str, total: int | None, progress: bool) -> "tqdm[Any]":
    """A bar in bytes."""
    return tqdm(
        total=total, desc=what, unit="B", unit_scale=True, leave=False, disable=quiet(progress)
    )


def fetch(
    source: Source, cache: Path, given: Path | None, offline: bool, progress: bool
) -> Verified:
    """The verified file of a source from outside: the given one, the cached one, or a download.

    Raises:
        SourceError: nowhere to be had, or not the pinned bytes.
        OutputError: not enough space for the download.
    """
    if given is not None:
        if not given.is_file():
            raise SourceError(f"--source {source.name}={given}: expected a file, got none there")
        return check(source, given.resolve(), cache, progress)
    kept = _kept(source, cache)
    if kept.is_file():
        try:
            return check(source, kept, cache, progress)
        except SourceError as error:
            bad = set_aside(kept)
            if offline:
                raise SourceError(f"{error}; set aside as {bad.name}") from None
    if offline:
        raise SourceError(
            f"{source.file} is not in {kept.parent} and --offline forbids a download; "
            f"bring it with --source {source.name}=FILE"
        )
    _download_from_mirrors(source, kept, progress)
    return check(source, kept, cache, progress)


def at_hand(source: Source, cache: Path, given: Path | None, progress: bool) -> Verified | None:
    """The verified file of a source if it is given or in the cache; nothing is downloaded."""
    kept = _kept(source, cache)
    if given is None and not kept.is_file():
        return None
    return fetch(source, cache, given, offline=True, progress=progress)


def _kept(source: Source, cache: Path) -> Path:
    return cache / "downloads" / f"{(source.sha256 or '')[:16]}-{source.file}"


def generate(
    source: Source, cache: Path, key: Mapping[str, Any], make: Generator, progress: bool
) -> Verified:
    """The file of a generated source: the cached one, or newly made by ``make(path)``.

    ``key`` is everything that decides the bytes (recipe, version, parameters).
    """
    kept = generated_path(source, cache, key)
    if kept.is_file():
        try:
            return check(source, kept, cache, progress)
        except SourceError:
            set_aside(kept)
    with written(kept) as temporary, _spinner(f"making {source.file}", progress):
        make(temporary)
    return check(source, kept, cache, progress)


def generated_path(source: Source, cache: Path, key: Mapping[str, Any]) -> Path:
    """Where a generated file lies, or will lie."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache / "generated" / f"{digest[:16]}-{source.file}"


def _spinner(what: str, progress: bool) -> "tqdm[Any]":
    """A line that says what is under way, for work that can't say how far it is."""
    return tqdm(desc=what, bar_format="{desc} …", leave=False, disable=quiet(progress))


def check(source: Source, path: Path, cache: Path, progress: bool) -> Verified:
    """Check a file's size and sha256 against the source's pins.

    Raises:
        SourceError: with what was expected and what was there.
    """
    size = path.stat().st_size
    if source.bytes is not None and size != source.bytes:
        raise SourceError(
            f"{path}: expected {source.bytes:,} bytes, got {size:,}{_looks_like(path)}; "
            "is it the file that the manifest means?"
        )
    digest = _sha256(path, cache, progress)
    if source.sha256 is not None and digest != source.sha256:
        raise SourceError(
            f"{path}: expected sha256 {source.sha256}, got {digest}{_looks_like(path)}; "
            "is it the file that the manifest means?"
        )
    return Verified(path, digest)


def set_aside(path: Path) -> Path:
    """Rename a bad file to ``<name>.bad``, so that it is never taken for a good one."""
    return path.rename(path.with_name(path.name + ".bad"))


def _looks_like(path: Path) -> str:
    with path.open("rb") as handle:
        head = handle.read(64).lstrip().lower()
    return " (it is an HTML page)" if head.startswith((b"<!doctype", b"<html")) else ""


def _sha256(path: Path, cache: Path, progress: bool) -> str:
    """A file's sha256, from memory where path, size and modification time are the same."""
    stat = path.stat()
    stamp = {"path": str(path), "bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    note = cache / "verified" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:16]}.json"
    try:
        known = json.loads(note.read_text())
        if {k: known[k] for k in stamp} == stamp:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no note, or not one of ours: hash the file
    with byte_bar(f"checking {path.name}", stat.st_size, progress) as bar:
        digest = sha256_of(path, bar.update)
    write_json(note, stamp | {"sha256": digest})
    return digest


def _download_from_mirrors(source: Source, kept: Path, progress: bool) -> None:
    """Download to ``kept`` from the first mirror that serves the pinned bytes."""
    kept.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(kept.parent).free
    if source.bytes is not None and source.bytes > free:
        raise OutputError(
            f"{kept.parent}: {source.file} needs {source.bytes:,} bytes, {free:,} are free; "
            "make room or choose another --cache"
        )
    failures = []
    for url in source.urls:
        try:
            with written(kept) as part:
                _download(url, part, source, progress)
            return
        except SourceError as error:
            failures.append(str(error))
    tried = "; ".join(failures) or "the manifest names no URL"
    raise SourceError(
        f"{source.file}: could not be downloaded: {tried}; "
        f"fetch it by hand and give it with --source {source.name}=FILE"
    )


def _reason(error: Exception) -> str:
    """What a person needs to know of a failed request, without the library's inner names."""
    import requests

    answer = getattr(error, "response", None)
    if answer is not None:
        return f"the server answered {answer.status_code} {answer.reason}"
    if isinstance(error, requests.Timeout):
        return f"no answer within {TIMEOUT[1]} s"
    if isinstance(error, requests.ConnectionError):
        return "no connection to that host"
    return str(error)


def _download(url: str, part: Path, source: Source, progress: bool) -> None:
    """Bring one URL to ``part`` and check it; a wrong file is kept beside as ``.bad``."""
    import requests

    try:
        # "identity": the archive as it is, not once more compressed on the way.
        answer = requests.get(
            url, stream=True, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}
        )
        with answer:
            answer.raise_for_status()
            digest, size = hashlib.sha256(), 0
            with part.open("wb") as out, byte_bar(source.file, source.bytes, progress) as bar:
                for chunk in answer.iter_content(CHUNK):
                    out.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
                    bar.update(len(chunk))
                    if source.bytes is not None and size > source.bytes:
                        break
    except requests.RequestException as error:
        raise SourceError(f"{url}: {_reason(error)}") from None
    if size != source.bytes or digest.hexdigest() != source.sha256:
        bad = part.rename(part.with_name(f"{source.file}.bad"))
        raise SourceError(
            f"{url}: expected {source.bytes:,} bytes with sha256 {source.sha256}, got {size:,} "
            f"with {digest.hexdigest()}{_looks_like(bad)}; kept as {bad}"
        )
