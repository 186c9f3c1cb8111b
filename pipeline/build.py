"""One Task → one shard file and its sidecar: the only code that runs in a worker.

A clip that can't be used is left out and listed in the sidecar with its name, place and reason; the
driver decides whether that ends the build. Clips of equal length are computed together.
"""

import hashlib
import importlib.metadata
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from pipeline.archive import Reader
from pipeline.audio import Audio
from pipeline.errors import ClipError
from pipeline.features import Feature
from pipeline.features.kernel import how as spectra_by
from pipeline.moments import bins_of, of_values
from pipeline.plan import read_rows, refs_of
from pipeline.recipe import Recipe, load_recipe
from pipeline.records import Ref, ShardInfo, Task
from pipeline.shard import Columns, write_shard

Array = npt.NDArray[Any]
CLIPS_AT_ONCE = 32
LIBRARIES = ("numpy", "scipy", "soundfile", "soxr", "pyarrow")


@dataclass(frozen=True)
class Job:
    """What every task of a build has in common; travels to the workers.

    Attributes:
        folder: where the shards go.
        plan: the plan table.
        recipe: the recipe's file.
        files: source name → plain file.
        classes: names of the class labels, by label.
    """

    folder: Path
    plan: Path
    recipe: Path
    files: Mapping[str, Path]
    feature: Feature
    audio: Audio | None
    columns: Columns
    classes: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class BadClip:
    """A clip that could not be used, and where it lies."""

    key: str
    source: str
    offset: int
    size: int
    reason: str


def build(job: Job, task: Task) -> str:
    """Build one shard with its sidecar, unless both are there and agree; its name.

    One intra-op thread, whatever the machine: more would change how sums are rounded.
    """
    if finished(job.folder, task) is None:
        with threadpool_limits(1):
            _build_shard(job, task)
    return task.shard


def finished(folder: Path, task: Task) -> dict[str, Any] | None:
    """The sidecar of a shard that is complete and unchanged, else None."""
    shard, sidecar = folder / f"{task.shard}.arrow", folder / f"{task.shard}.json"
    try:
        values: dict[str, Any] = json.loads(sidecar.read_text())
        if shard.stat().st_size == values["bytes"] and _sha256(shard) == values["sha256"]:
            return values
    except (OSError, ValueError, KeyError, TypeError):
        pass  # missing, cut short or not ours: build it again
    return None


def _build_shard(job: Job, task: Task) -> None:
    recipe = _recipe(job.recipe)
    rows = read_rows(job.plan, task).to_pylist()
    features, bad = _features(job, recipe, rows)
    kept = sorted(features)
    labels = {
        name: _label_values(name, [rows[i][name] for i in kept], job.classes)
        for name in job.columns.labels
    }
    path = job.folder / f"{task.shard}.arrow"
    values = [features[i] for i in kept]
    write_shard(path, job.columns, [rows[i]["key"] for i in kept], labels, values)
    info = ShardInfo(task.shard, len(kept), path.stat().st_size, _sha256(path))
    bins = bins_of(job.columns.dtype, job.columns.shape)
    sidecar = asdict(info) | {
        "moments": of_values(values, bins).to_dict() if bins else None,
        "bad": [asdict(clip) for clip in bad],
        "versions": _versions(),
    }
    write_json(job.folder / f"{task.shard}.json", sidecar)


@cache
def _recipe(code: Path) -> Recipe:
    return load_recipe(code)


@cache
def _versions() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return versions | {"spectra": spectra_by()}


def _features(
    job: Job, recipe: Recipe, rows: Sequence[Mapping[str, Any]]
) -> tuple[dict[int, Array], list[BadClip]]:
    """The features of every usable row by its number, and the bad clips in order."""
    reader = Reader(job.files)
    features: dict[int, Array] = {}
    reasons: dict[int, str] = {}
    for numbers, arrays in _equal_lengths(job, recipe, rows, reader, reasons):
        for number, result in _apply(job.feature, numbers, arrays, reasons):
            features[number] = result
    bad = [_bad_clip(rows[i], reasons[i]) for i in sorted(reasons)]
    return features, bad


def _equal_lengths(
    job: Job,
    recipe: Recipe,
    rows: Sequence[Mapping[str, Any]],
    reader: Reader,
    reasons: dict[int, str],
) -> Iterator[tuple[list[int], list[Array]]]:
    """Decode the rows and group them by shape, at most ``CLIPS_AT_ONCE`` to a group."""
    waiting: dict[tuple[int, ...], list[tuple[int, Array]]] = defaultdict(list)
    for number, row in enumerate(rows):
        try:
            array = recipe.load([reader.piece(ref) for ref in refs_of(row)], job.audio)
        except ClipError as error:
            reasons[number] = str(error)
            continue
        group = waiting[array.shape]
        group.append((number, array))
        if len(group) == CLIPS_AT_ONCE:
            yield [n for n, _ in group], [a for _, a in group]
            group.clear()
    for group in waiting.values():
        if group:
            yield [n for n, _ in group], [a for _, a in group]


def _apply(
    feature: Feature, numbers: list[int], arrays: list[Array], reasons: dict[int, str]
) -> Iterator[tuple[int, Array]]:
    """Features of a group; where the group fails, one by one, so that the bad clip is named."""
    try:
        yield from zip(numbers, feature.apply(np.stack(arrays)), strict=True)
    except ClipError as error:
        if len(numbers) == 1:
            reasons[numbers[0]] = str(error)
            return
        for number, array in zip(numbers, arrays, strict=True):
            yield from _apply(feature, [number], [array], reasons)


def _bad_clip(row: Mapping[str, Any], reason: str) -> BadClip:
    first: Ref = refs_of(row)[0]
    return BadClip(row["key"], first.source, first.offset, first.size, reason)


def _label_values(
    name: str, values: list[Any], classes: Mapping[str, tuple[str, ...]]
) -> list[Any]:
    """A label's stored values: class names become indices."""
    if name not in classes:
        return values
    number = {text: i for i, text in enumerate(classes[name])}
    return [number[str(value)] for value in values]


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON under a temporary name, flush it to disk, and rename it to ``path``."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8") as out:
            json.dump(values, out, indent=1, ensure_ascii=False)
            out.write("\n")
            out.flush()
            os.fsync(out.fileno())
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
