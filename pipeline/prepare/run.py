"""``prepare_dataset``: the whole walk from a request to a sealed dataset."""

import inspect
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from tqdm import tqdm

from pipeline.archive import Opened, open_source
from pipeline.build import Job, build
from pipeline.dataset import NAME, open_sealed, seal
from pipeline.engines import ENGINES
from pipeline.errors import (
    DatasetError,
    OutputError,
    RecipeError,
    ShardwellError,
    unknown_name,
)
from pipeline.fetch import Verified, byte_bar, check, fetch, generate, generated_path, quiet
from pipeline.files import write_json
from pipeline.manifest import Source
from pipeline.plan import Plan, write_plan
from pipeline.prepare.checks import (
    check_bad_clips,
    check_folder,
    check_promises,
    check_space,
    disk_errors_in_one_line,
)
from pipeline.prepare.request import Request, Resolved, resolve, source_key
from pipeline.recipe import Corpus, Recipe
from pipeline.records import Example

PLAN_NAME = ".plan.arrow"  # removed when the dataset is sealed
LOG = logging.getLogger(__name__)
PRELOAD = ("pipeline.build",)


@dataclass(frozen=True)
class Prepared:
    """A sealed dataset: where it is, its rows per split, and whether it was there already."""

    folder: Path
    rows: Mapping[str, int]
    bad: int
    up_to_date: bool


def prepare_dataset(request: Request) -> Prepared:
    """Build the dataset that a request declares, or find that it is there.

    Raises:
        ShardwellError: see ``pipeline/errors.py``; what was finished before stays for the next run.
    """
    resolved = resolve(request)
    with disk_errors_in_one_line():
        files = generated_files(resolved)
        hashes = {
            role: files[role].sha256 if role in files else str(source.sha256)
            for role, source in resolved.sources.items()
        }
        declaration = resolved.declaration(hashes)
        folder = resolved.folder(declaration)
        found = _found(resolved, declaration, folder)
        if found:
            return found
        check_folder(folder)
        with _one_at_a_time(folder):
            found = _found(resolved, declaration, folder)  # the run that we waited for made it
            if found:
                return found
            (folder / NAME).unlink(missing_ok=True)  # its shards are damaged: build them again
            files |= _outside_files(resolved, skip=files)
            return _build(resolved, declaration, folder, files)


def _found(resolved: Resolved, declaration: Mapping[str, Any], folder: Path) -> Prepared | None:
    """The dataset that is there already and whole, if there is one.

    Raises:
        OutputError: its ``dataset.json`` describes something else.
        BuildError: it is not what this request asks for: more bad clips, other promises.
    """
    try:
        info = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        info = None
    declared = json.loads(json.dumps(declaration))
    if not isinstance(info, dict) or {key: info.get(key) for key in declared} != declared:
        raise OutputError(
            f"{folder / NAME}: describes another dataset or is damaged; "
            "move the directory away and run again"
        )
    try:
        sealed = open_sealed(folder)
    except DatasetError:
        return None  # a shard is missing or cut short
    check_bad_clips(info["bad"], resolved.request.max_bad)
    rows = {split: sealed.rows(split) for split in sealed.splits}
    for clip in info["bad"]:  # a promise is of examples, whether they could be used or not
        rows[clip["split"]] += 1
    check_promises(resolved, rows)
    return _prepared(folder, info, up_to_date=True)


def _prepared(folder: Path, info: Mapping[str, Any], up_to_date: bool) -> Prepared:
    rows = {split: sum(s["rows"] for s in shards) for split, shards in info["splits"].items()}
    return Prepared(folder, rows, len(info["bad"]), up_to_date)


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold a dataset's lock; a second run waits for the first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / f".{folder.name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        LOG.warning("%s: another run is building it; waiting for its end", folder)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def generated_files(resolved: Resolved) -> dict[str, Verified]:
    """Role → file, for the sources that the recipe makes itself."""
    return {
        role: _generated_file(resolved, source)
        for role, source in resolved.sources.items()
        if source.generated
    }


def _generated_file(resolved: Resolved, source: Source) -> Verified:
    generators, name = resolved.recipe.generators, str(source.generated)
    if name not in generators:
        raise unknown_name("generator", name, generators)
    key = source_key(resolved, source)
    make = partial(generators[name], **key["params"])
    return generate(source, resolved.cache, key, make, resolved.request.progress)


def generated_at_hand(resolved: Resolved, source: Source) -> Verified | None:
    """The file of a generated source if it was made before; nothing is made."""
    path = generated_path(source, resolved.cache, source_key(resolved, source))
    if not path.is_file():
        return None
    return check(source, path, resolved.cache, resolved.request.progress)


def _outside_files(resolved: Resolved, skip: Mapping[str, Verified]) -> dict[str, Verified]:
    """Role → verified file, for the sources from outside."""
    request = resolved.request
    return {
        role: fetch(
            source,
            resolved.cache,
            resolved.given(source),
            request.offline,
            request.progress,
        )
        for role, source in resolved.sources.items()
        if role not in skip
    }


def _build(
    resolved: Resolved,
    declaration: Mapping[str, Any],
    folder: Path,
    files: Mapping[str, Verified],
) -> Prepared:
    """Open the sources, plan, build every shard, seal."""
    request = resolved.request
    workers = request.workers or os.cpu_count() or 1
    with ENGINES[request.engine](workers, PRELOAD) as run:
        opened = open_all(resolved, files)
        folder.mkdir(parents=True, exist_ok=True)
        plan = make_plan(resolved, opened, folder / PLAN_NAME)
        check_space(folder, plan)
        job = Job(
            folder=folder.resolve(),
            plan=plan.path.resolve(),
            recipe=resolved.code,
            files={source.name: source.path.resolve() for source in opened.values()},
            feature=resolved.feature,
            audio=resolved.audio,
            columns=resolved.columns,
            classes=plan.classes,
        )
        results = run(partial(build, job), plan.tasks)
        for _ in _bar(results, len(plan.tasks), request.progress):
            pass
    return _seal(resolved, declaration, folder, plan)


def open_all(resolved: Resolved, files: Mapping[str, Verified]) -> dict[str, Opened]:
    """Role → source readable in place, inflated where needed."""
    opened = {}
    for role, file in files.items():
        name = resolved.sources[role].name
        total = file.path.stat().st_size
        with byte_bar(f"opening {file.path.name}", total, resolved.request.progress) as bar:
            opened[role] = open_source(name, file.path, file.sha256, resolved.cache, bar.update)
    return opened


def make_plan(resolved: Resolved, opened: Mapping[str, Opened], path: Path) -> Plan:
    """Write the plan and hold it against the protocol's promises.

    Raises:
        BuildError: a split has another number of examples than the protocol promises.
    """
    recipe = resolved.recipe
    try:
        inspect.signature(recipe.examples).bind(None, **resolved.params)
    except TypeError as error:
        raise RecipeError(
            f"recipe {recipe.name}: the protocol's params do not fit its examples(): {error}"
        ) from None
    examples = _examples(recipe, Corpus(opened), resolved.params)
    plan = write_plan(path, examples, recipe.labels, resolved.feature, resolved.audio)
    check_promises(resolved, plan.rows)
    return plan


def _examples(recipe: Recipe, corpus: Corpus, params: Mapping[str, Any]) -> Iterator[Example]:
    """The recipe's examples; what its code may raise becomes one line."""
    try:
        yield from recipe.examples(corpus, **params)
    except ShardwellError:
        raise
    except Exception as error:  # whatever a stranger's recipe may raise
        what = f"{type(error).__name__}: {error}"
        raise RecipeError(f"recipe {recipe.name}: examples failed: {what}") from error


def _seal(resolved: Resolved, declaration: Mapping[str, Any], folder: Path, plan: Plan) -> Prepared:
    """Merge the sidecars into ``dataset.json``, unless too many clips are bad."""
    sidecars = [json.loads((folder / f"{t.shard}.json").read_text()) for t in plan.tasks]
    check_bad_clips([c for sidecar in sidecars for c in sidecar["bad"]], resolved.request.max_bad)
    extra = {
        "promised": dict(resolved.promised),
        "hints": dict(resolved.recipe.hints),
        "corpus": {
            "title": resolved.manifest.title,
            "licence": resolved.manifest.licence,
            "homepage": resolved.manifest.homepage,
            "citation": resolved.manifest.citation,
            "languages": list(resolved.manifest.languages),
        },
    }
    info = seal(declaration, resolved.columns, plan.classes, sidecars, extra)
    _remove_orphans(folder, plan)
    write_json(folder / NAME, info)
    return _prepared(folder, info, up_to_date=False)


def _remove_orphans(folder: Path, plan: Plan) -> None:
    """Remove what earlier runs left: shards of another plan, temporary files."""
    own = {f"{task.shard}.{ending}" for task in plan.tasks for ending in ("arrow", "json")}
    for path in folder.iterdir():
        if path.name not in own and (path.suffix in (".arrow", ".json") or path.suffix == ".part"):
            path.unlink()


def _bar(results: Iterable[Any], total: int, progress: bool) -> Iterable[Any]:
    return tqdm(results, total=total, desc="building shards", unit="shard", disable=quiet(progress))
