"""One Task → one shard file and its sidecar: the only code that runs in a worker.

A clip that can't be used is left out and listed in the sidecar with its name, place and reason; the
driver decides whether that ends the build. Clips of equal length are computed together.
"""

import hashlib
import importlib.metadata
import json
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
from pipeline.errors import ClipError, RecipeError, ShardwellError
from pipeline.features import Feature
from pipeline.features.kernel import how as spectra_by
from pipeline.files import sha256_of, write_json
from pipeline.manifest import SPLITS
from pipeline.moments import of_values
from pipeline.plan import read_rows, refs_of
from pipeline.recipe import Recipe, load_recipe
from pipeline.records import Ref, ShardInfo, Task
from pipeline.shard import Columns, write_shard

Array = npt.NDArray[Any]
CLIPS_AT_ONCE = 32
VALUES_WAITING = 1 << 22  # decoded samples that wait for clips of their length: 16 MB
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
    split: str
    source: str
    offset: int
    size: int
    reason: str


def build(job: Job, task: Task) -> str:
    """Build one shard with its sidecar, unless both are there and agree; its name.

    One intra-op thread, whatever the machine: more would change how sums are rounded.
    """
    rows = read_rows(job.plan, task).to_pylist()
    made_from = _made_from(rows, job)
    if not _finished(job.folder, task, made_from):
        with threadpool_limits(1):
            _build_shard(job, task, rows, made_from)
    return task.shard


def _made_from(rows: Sequence[Mapping[str, Any]], job: Job) -> str:
    """The hash of all that a shard is made from but the fingerprint doesn't hold.

    A recipe that was edited between two runs, or another version of a library, gives another plan
    or other bytes: what an earlier run left is then built again, never mixed in.
    """
    whole = json.dumps([rows, job.classes, _versions(job)], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def _finished(folder: Path, task: Task, made_from: str) -> bool:
    """Whether a shard is complete, unchanged, and what this run would make."""
    shard, sidecar = folder / f"{task.shard}.arrow", folder / f"{task.shard}.json"
    try:
        values = json.loads(sidecar.read_text())
        same = values["made_from"] == made_from and values["bytes"] == shard.stat().st_size
        return same and bool(sha256_of(shard) == values["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False  # missing, cut short or not ours: build it again


def _build_shard(job: Job, task: Task, rows: Sequence[Mapping[str, Any]], made_from: str) -> None:
    features, bad = _features(job, _recipe(job.recipe), rows)
    kept = sorted(features)
    labels = {
        name: _label_values(name, [rows[i][name] for i in kept], job.classes)
        for name in job.columns.labels
    }
    path = job.folder / f"{task.shard}.arrow"
    values = [features[i] for i in kept]
    write_shard(path, job.columns, [rows[i]["key"] for i in kept], labels, values)
    info = ShardInfo(task.shard, len(kept), path.stat().st_size, sha256_of(path))
    bins = job.feature.bins
    sidecar = asdict(info) | {
        "moments": of_values(values, bins).to_dict() if bins else None,
        "bad": [asdict(clip) for clip in bad],
        "versions": _versions(job),
        "made_from": made_from,
    }
    write_json(job.folder / f"{task.shard}.json", sidecar)


@cache
def _recipe(code: Path) -> Recipe:
    return load_recipe(code)


def _versions(job: Job) -> dict[str, str]:
    """The libraries whose version may show in the bytes, and what computed the spectra."""
    names = [*LIBRARIES]
    if job.audio and job.audio.trim_db is not None:
        names.append("librosa")
    if job.audio and job.audio.denoise:
        names.append("noisereduce")
    versions = {name: importlib.metadata.version(name) for name in names}
    analysis = getattr(job.feature, "analysis", None)
    return versions | ({"spectra": spectra_by(analysis)} if analysis else {})


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
    """Decode the rows and group them by shape: at most ``CLIPS_AT_ONCE`` to a group.

    Clips of open length seldom share a shape: what waits for company is bounded, too.
    """
    waiting: dict[tuple[int, ...], list[tuple[int, Array]]] = defaultdict(list)
    held = 0
    for number, row in enumerate(rows):
        try:
            array = np.asarray(recipe.load([reader.piece(r) for r in refs_of(row)], job.audio))
        except ClipError as error:
            reasons[number] = str(error)
            continue
        except ShardwellError:
            raise
        except Exception as error:  # whatever a stranger's recipe may raise
            what = f"{type(error).__name__}: {error}"
            raise RecipeError(
                f"recipe {recipe.name}: load failed on {row['key']}: {what}"
            ) from error
        waiting[array.shape].append((number, array))
        held += array.size
        full = [array.shape] if len(waiting[array.shape]) == CLIPS_AT_ONCE else []
        for shape in list(waiting) if held > VALUES_WAITING else full:
            group = waiting.pop(shape)
            held -= sum(a.size for _, a in group)
            yield [n for n, _ in group], [a for _, a in group]
    for group in waiting.values():
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
    return BadClip(row["key"], SPLITS[row["split"]], first.source, first.offset, first.size, reason)


def _label_values(
    name: str, values: list[Any], classes: Mapping[str, tuple[str, ...]]
) -> list[Any]:
    """A label's stored values: class names become indices."""
    if name not in classes:
        return values
    number = {text: i for i, text in enumerate(classes[name])}
    return [number[str(value)] for value in values]
