"""Where a dataset goes: a folder, or a URL with a scratch folder on this machine."""

import hashlib
import json
import logging
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.dataset import NAME, SHARD_NAME, Sealed, check_size, open_sealed, parse
from pipeline.errors import DatasetError, OutputError
from pipeline.files import alone, write_json
from pipeline.prepare.checks import bad_clips, check_bad_clips, check_promises
from pipeline.prepare.nearest import differences
from pipeline.prepare.request import Resolved
from pipeline.remote import is_url, open_remote, read, remove, sizes, upload

LOG = logging.getLogger(__name__)
PLAN_NAME = ".plan.arrow"  # removed when the dataset is sealed


@dataclass(frozen=True)
class Output:
    """Where a dataset goes.

    Attributes:
        folder: its folder; for a dataset at a URL where shards wait for their upload,
            ``<cache>/scratch/<hash of the URL>``, empty again at the end.
        url: its URL, or None.
    """

    folder: Path
    url: str | None


@dataclass(frozen=True)
class Prepared:
    """A sealed dataset: its folder or URL, its rows per split, and whether it was there already.

    ``bad`` clips were left out, ``odd`` ones were not: the findings in ``dataset.json`` name them.
    """

    folder: Path | str
    rows: Mapping[str, int]
    bad: int
    odd: int
    up_to_date: bool


def output_of(resolved: Resolved, declaration: Mapping[str, Any]) -> Output:
    """``<out>/<recipe>/<protocol>-<kind>-<fingerprint>``"""
    out, name = resolved.request.out, resolved.name(declaration)
    if not is_url(out):
        return Output(Path(out) / name, None)
    url = f"{out.rstrip('/')}/{name}"
    scratch = hashlib.sha256(url.encode()).hexdigest()[:16]
    return Output(resolved.cache.absolute() / "scratch" / scratch, url)


def find(resolved: Resolved, declaration: Mapping[str, Any], output: Output) -> Prepared | None:
    """The dataset that is there already and whole, if there is one.

    Raises:
        OutputError: its ``dataset.json`` describes something else.
        BuildError: it is not what this request asks for: more bad clips, other promises.
    """
    place = f"{output.url or output.folder}/{NAME}"
    try:
        data = read(place) if output.url else (output.folder / NAME).read_bytes()
        info = json.loads(data) if data is not None else None
    except (FileNotFoundError, NotADirectoryError):
        data = info = None
    except (ValueError, RecursionError):
        info = None
    if data is None:
        return None
    declared = json.loads(json.dumps(declaration))
    if not isinstance(info, dict) or {key: info.get(key) for key in declared} != declared:
        raise OutputError(
            f"{place}: describes another dataset or is damaged; "
            "move the directory away and run again"
        )
    try:
        sealed = open_remote(output.url) if output.url else open_sealed(output.folder)
    except DatasetError:
        return None  # a shard is missing or cut short
    check_bad_clips(info["findings"], resolved.request.max_bad)
    rows = {split: sealed.rows(split) for split in sealed.splits}
    for clip in bad_clips(info["findings"]):  # a promise is of examples, usable or not
        rows[clip["split"]] = rows.get(clip["split"], 0) + 1
    check_promises(resolved, rows)
    return prepared(output, info, up_to_date=True)


def corpus_of(resolved: Resolved) -> dict[str, Any]:
    """What the manifest says of the corpus, for people: it decides no example."""
    manifest = resolved.manifest
    return {
        "title": manifest.title,
        "licence": manifest.licence,
        "redistribution": manifest.redistribution,
        "homepage": manifest.homepage,
        "citation": manifest.citation,
        "languages": list(manifest.languages),
        "protocol": resolved.protocol.about,
    }


def retell(resolved: Resolved, output: Output) -> None:
    """Let a dataset that is there say of its corpus what the manifest that was asked for says.

    That is no part of the fingerprint, and a licence is often stated after the build.
    """
    if resolved.request.manifest is None:
        return
    place, corpus = f"{output.url or output.folder}/{NAME}", corpus_of(resolved)

    def told() -> dict[str, Any]:
        data = read(place) if output.url else Path(place).read_bytes()
        info: dict[str, Any] = json.loads(data or b"")
        return info

    if told()["corpus"] == corpus:  # a dataset may be read-only
        return
    with one_at_a_time(output):
        info = told()
        if info["corpus"] == corpus:
            return
        write_json(output.folder / NAME, info | {"corpus": corpus})
        if output.url:
            upload(output.folder / NAME, place)
    LOG.info("%s: tells of its corpus what %s says", place, resolved.request.manifest)


def prepared(output: Output, info: Mapping[str, Any], up_to_date: bool) -> Prepared:
    """What a ``dataset.json`` says of a dataset that is sealed now."""
    rows = {split: sum(s["rows"] for s in shards) for split, shards in info["splits"].items()}
    bad = len(bad_clips(info["findings"]))
    return Prepared(output.url or output.folder, rows, bad, len(info["findings"]) - bad, up_to_date)


def explain(declaration: Mapping[str, Any], output: Output) -> None:
    """Log why the dataset wasn't found where a person may have thought that it was there."""
    if output.url is None and (output.folder / NAME).exists():
        LOG.info("%s: shards are missing or damaged; building those again", output.folder)
        return
    changed = None if output.url else differences(declaration, output.folder.parent)
    if changed:
        LOG.info("%s is a new dataset; %s", output.folder.name, changed)


def _is_own(name: str) -> bool:
    """Whether a file of that name in a dataset's folder can only be ours."""
    if name.startswith("."):
        return name == PLAN_NAME or name.endswith(".part")
    stem, _, ending = name.rpartition(".")
    return name == NAME or (ending in ("arrow", "json") and bool(SHARD_NAME.fullmatch(stem)))


def check_folder(folder: Path) -> None:
    """Raise OutputError if the folder can't be this dataset's: something else is there."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise OutputError(f"{place}: expected a directory, got a file; choose another --out")
    if not folder.exists():
        return
    for entry in folder.iterdir():
        if entry.name.startswith(".") or _is_own(entry.name):
            continue
        raise OutputError(
            f"{folder}: holds {entry.name}, which is no part of a dataset; "
            "move it away or choose another --out"
        )


def check_output(output: Output) -> None:
    """Raise OutputError or RemoteError now if the dataset could not be written in the end."""
    check_folder(output.folder)
    if output.url:
        with _scratch_file(output) as local:
            place = f"{output.url}/{local.name}"
            upload(local, place)
            remove(place)


@contextmanager
def _scratch_file(output: Output) -> Iterator[Path]:
    output.folder.mkdir(parents=True, exist_ok=True)
    path = output.folder / f".trial.{secrets.token_hex(4)}.part"
    path.write_bytes(b"\0")
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def one_at_a_time(output: Output) -> Iterator[None]:
    """Hold a dataset's lock; a second run waits for the first. Scratch is swept at the end.

    For a URL it holds for runs with this cache. Two runs of one version elsewhere upload the same
    bytes, each object whole, so either may seal.
    """
    with alone(output.folder):
        try:
            yield
        finally:
            if output.url:
                shutil.rmtree(output.folder, ignore_errors=True)


def unseal(output: Output) -> None:
    """Remove ``dataset.json``: without it a folder is not a dataset."""
    if output.url:
        remove(f"{output.url}/{NAME}")
    else:
        (output.folder / NAME).unlink(missing_ok=True)


def forget(output: Output, shards: Iterable[str]) -> None:
    """Remove the sidecars of shards, so that the next run builds them again."""
    for shard in shards:
        (output.folder / f"{shard}.json").unlink(missing_ok=True)
        if output.url:
            remove(f"{output.url}/{shard}.json")


def seal_output(output: Output, info: Mapping[str, Any]) -> None:
    """Write ``dataset.json`` where the shards are, once they are all there in their sizes.

    Raises:
        DatasetError: a shard in the store is not the one that was uploaded.
    """
    sealed = parse(output.folder, json.loads(json.dumps(info)), output.folder / NAME)
    if output.url is None:
        _remove_orphans(output.folder, sealed)
        write_json(output.folder / NAME, info)
        return
    there = sizes(output.url)
    for shard in (shard for shards in sealed.splits.values() for shard in shards):
        name = f"{shard.shard}.arrow"
        check_size(f"{output.url}/{name}", there.get(name), shard)
    write_json(output.folder / NAME, info)
    upload(output.folder / NAME, f"{output.url}/{NAME}")


def _remove_orphans(folder: Path, sealed: Sealed) -> None:
    """Remove what earlier runs left: shards of another plan, temporary files."""
    shards = [shard.shard for shards in sealed.splits.values() for shard in shards]
    own = {f"{shard}.{ending}" for shard in shards for ending in ("arrow", "json")}
    for path in folder.iterdir():
        if path.name not in own and _is_own(path.name) and path.name != NAME:
            path.unlink()
