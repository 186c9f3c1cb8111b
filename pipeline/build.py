"""One Task → one shard file and its sidecar: the only code that runs in a worker.

A worker doesn't wait for the disk: the driver flushes what is finished, and a shard that a power
cut damaged is told by the hash in its sidecar. A clip that can't be used is left out and listed in
the sidecar with its name, place and reason (the driver decides whether that ends the build); one
that is only odd is listed, too. Clips of equal length are computed together.
"""

import hashlib
import importlib.metadata
import json
import threading
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
from pipeline.labels import stored_values
from pipeline.moments import of_values
from pipeline.plan import Rows, read_rows
from pipeline.recipe import Recipe, load_recipe
from pipeline.records import Example, ShardInfo, Task
from pipeline.shard import Columns, write_shard

Array = npt.NDArray[Any]
CLIPS_AT_ONCE = 32
VALUES_WAITING = 1 << 22  # decoded samples that wait for clips of their length: 16 MB
LIBRARIES = ("numpy", "scipy", "soundfile", "soxr", "pyarrow")
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Job:
    """What every task of a build has in common; travels to the workers.

    Attributes:
        folder: where the shards go.
        plan: the plan table.
        recipe: the recipe's file.
        files: source name → plain file.
        classes: names of the class labels, and characters of the labels of such, by label.
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
class Finding:
    """A clip that could not be used, or is odd, and where it lies."""

    key: str
    split: str
    source: str
    offset: int
    size: int
    reason: str
    left_out: bool


def build(job: Job, task: Task) -> dict[str, Any]:
    """Build one shard with its sidecar, unless both are there and agree; the sidecar's values.

    One intra-op thread, whatever the machine: more would change how sums are rounded. That limit
    is the whole process's, so where an engine has several threads in it they take turns.
    """
    return build_rows(job, task, read_rows(job.plan, task))


def build_rows(job: Job, task: Task, rows: Rows) -> dict[str, Any]:
    """``build`` where the plan's rows are at hand."""
    wanted = made_from(rows, job)
    found = _finished(job.folder, task, wanted)
    if found:
        return found
    with _ONE_AT_A_TIME, threadpool_limits(1):
        return _build_shard(job, task, rows.examples, wanted)


def made_from(rows: Rows, job: Job) -> str:
    """The hash of all that a shard is made from but the fingerprint doesn't hold.

    A recipe that was edited between two runs, or another version of a library, gives another plan
    or other bytes: what an earlier run left is then built again, never mixed in.
    """
    whole = json.dumps([rows.sha256, job.classes, versions(job)], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def _finished(folder: Path, task: Task, wanted: str) -> dict[str, Any] | None:
    """The sidecar of a shard that is complete, unchanged, and what this run would make."""
    shard, sidecar = folder / f"{task.shard}.arrow", folder / f"{task.shard}.json"
    try:
        values: dict[str, Any] = json.loads(sidecar.read_text())
        same = values["made_from"] == wanted and values["bytes"] == shard.stat().st_size
        return values if same and sha256_of(shard) == values["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # missing, cut short or not ours: build it again


def _build_shard(job: Job, task: Task, examples: Sequence[Example], wanted: str) -> dict[str, Any]:
    features, findings = _features(job, _recipe(job.recipe), examples)
    kept = sorted(features)
    labels = {
        name: stored_values(kind, [examples[i].labels[name] for i in kept], job.classes.get(name))
        for name, kind in job.columns.labels.items()
    }
    path = job.folder / f"{task.shard}.arrow"
    values = [features[i] for i in kept]
    write_shard(path, job.columns, [examples[i].key for i in kept], labels, values)
    info = ShardInfo(task.shard, len(kept), path.stat().st_size, sha256_of(path))
    bins = job.feature.bins
    sidecar = asdict(info) | {
        "moments": of_values(values, bins).to_dict() if bins else None,
        "findings": [asdict(finding) for finding in findings],
        "versions": versions(job),
        "made_from": wanted,
    }
    write_json(job.folder / f"{task.shard}.json", sidecar, flushed=False)
    return sidecar


@cache
def _recipe(code: Path) -> Recipe:
    return load_recipe(code)


def versions(job: Job) -> dict[str, str]:
    """The libraries whose version may show in the bytes, and what computed the spectra."""
    names = [*LIBRARIES]
    if job.audio and job.audio.trim_db is not None:
        names.append("librosa")
    if job.audio and job.audio.denoise:
        names.append("noisereduce")
    versions = {name: _version(name) for name in names}
    analysis = getattr(job.feature, "analysis", None)
    return versions | ({"spectra": spectra_by(analysis)} if analysis else {})


@cache
def _version(name: str) -> str:
    return importlib.metadata.version(name)


def _features(
    job: Job, recipe: Recipe, examples: Sequence[Example]
) -> tuple[dict[int, Array], list[Finding]]:
    """The features of every usable example by its number, and what was found, in order."""
    reader = Reader(job.files)
    features: dict[int, Array] = {}
    bad: dict[int, str] = {}
    odd: dict[int, str] = {}
    for numbers, arrays in _equal_lengths(job, recipe, examples, reader, bad, odd):
        for number, result in _apply(job.feature, numbers, arrays, bad):
            features[number] = result
    reasons = odd | bad
    return features, [_finding(examples[i], reasons[i], i in bad) for i in sorted(reasons)]


def _equal_lengths(
    job: Job,
    recipe: Recipe,
    examples: Sequence[Example],
    reader: Reader,
    bad: dict[int, str],
    odd: dict[int, str],
) -> Iterator[tuple[list[int], list[Array]]]:
    """Decode the examples and group them by shape: at most ``CLIPS_AT_ONCE`` to a group.

    Clips of open length seldom share a shape: what waits for company is bounded, too.
    """
    waiting: dict[tuple[int, ...], list[tuple[int, Array]]] = defaultdict(list)
    held = 0
    for number, example in enumerate(examples):
        pieces = [reader.piece(ref) for ref in example.refs]
        try:
            array = np.asarray(recipe.load(pieces, job.audio))
        except ClipError as error:
            bad[number] = str(error)
            continue
        except ShardwellError:
            raise
        except Exception as error:  # whatever a stranger's recipe may raise
            what = f"{type(error).__name__}: {error}"
            raise RecipeError(
                f"recipe {recipe.name}: load failed on {example.key}: {what}"
            ) from error
        warnings = [warning for piece in pieces for warning in piece.warnings]
        if warnings:
            odd[number] = "; ".join(warnings)
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
    feature: Feature, numbers: list[int], arrays: list[Array], bad: dict[int, str]
) -> Iterator[tuple[int, Array]]:
    """Features of a group; where the group fails, one by one, so that the bad clip is named."""
    try:
        yield from zip(numbers, feature.apply(np.stack(arrays)), strict=True)
    except ClipError as error:
        if len(numbers) == 1:
            bad[numbers[0]] = str(error)
            return
        for number, array in zip(numbers, arrays, strict=True):
            yield from _apply(feature, [number], [array], bad)


def _finding(example: Example, reason: str, left_out: bool) -> Finding:
    ref, split = example.refs[0], example.split
    return Finding(example.key, split, ref.source, ref.offset, ref.size, reason, left_out)
