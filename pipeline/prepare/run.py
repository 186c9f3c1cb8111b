"""``prepare_dataset``: the whole walk from a request to a sealed dataset."""

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline.archive import Opened, open_source
from pipeline.build import Job, build, write_json
from pipeline.dataset import NAME, seal
from pipeline.engines import ENGINES
from pipeline.errors import BuildError, OutputError, RecipeError, unknown_name
from pipeline.fetch import Verified, fetch, generate
from pipeline.manifest import Source
from pipeline.plan import Plan, write_plan
from pipeline.prepare.request import Request, Resolved, check_folder, resolve, source_key
from pipeline.recipe import Corpus

PLAN_NAME = ".plan.arrow"
BAD_CLIPS_SHOWN = 20
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
    with _no_space_is_one_line(request.out):
        files = generated_files(resolved)
        hashes = {
            role: files[role].sha256 if role in files else str(source.sha256)
            for role, source in resolved.sources.items()
        }
        declaration = resolved.declaration(hashes)
        folder = resolved.folder(declaration)
        if (folder / NAME).exists():
            return _found(folder, declaration)
        check_folder(folder)
        files |= _outside_files(resolved, skip=files)
        return _build(resolved, declaration, folder, files)


def _found(folder: Path, declaration: Mapping[str, Any]) -> Prepared:
    """The dataset that is there already."""
    try:
        info = json.loads((folder / NAME).read_text(encoding="utf-8"))
        same = {key: info[key] for key in declaration} == json.loads(json.dumps(declaration))
        rows = {split: sum(s["rows"] for s in shards) for split, shards in info["splits"].items()}
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise OutputError(
            f"{folder / NAME}: describes another dataset or is damaged; "
            "move the directory away and run again"
        )
    return Prepared(folder, rows, len(info["bad"]), up_to_date=True)


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


def _outside_files(resolved: Resolved, skip: Mapping[str, Verified]) -> dict[str, Verified]:
    """Role → verified file, for the sources from outside."""
    request = resolved.request
    return {
        role: fetch(
            source,
            resolved.cache,
            request.sources.get(source.name),
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
        _check_space(folder, plan)
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
        with tqdm(
            total=total,
            desc=f"opening {file.path.name}",
            unit="B",
            unit_scale=True,
            leave=False,
            disable=not resolved.request.progress,
        ) as bar:
            opened[role] = open_source(name, file.path, file.sha256, resolved.cache, bar.update)
    return opened


def make_plan(resolved: Resolved, opened: Mapping[str, Opened], path: Path) -> Plan:
    """Write the plan and hold it against the protocol's promises.

    Raises:
        BuildError: a split has another number of examples than the protocol promises.
    """
    recipe = resolved.recipe
    examples = recipe.examples(Corpus(opened), **resolved.params)
    try:
        plan = write_plan(path, examples, recipe.labels, resolved.feature, resolved.audio)
    except TypeError as error:
        # The one way a manifest's params can clash with a recipe's signature.
        raise RecipeError(f"recipe {recipe.name}: examples({resolved.params}): {error}") from error
    for split, promised in resolved.promised.items():
        found = plan.rows.get(split, 0)
        if promised is not None and found != promised:
            raise BuildError(
                f"{recipe.name} {resolved.protocol.name}: {split} should hold {promised:,} "
                f"examples, got {found:,}; a subset needs a manifest of its own (--manifest)"
            )
    return plan


def _seal(resolved: Resolved, declaration: Mapping[str, Any], folder: Path, plan: Plan) -> Prepared:
    """Merge the sidecars into ``dataset.json``, unless too many clips are bad."""
    sidecars = [json.loads((folder / f"{t.shard}.json").read_text()) for t in plan.tasks]
    bad = [clip for sidecar in sidecars for clip in sidecar["bad"]]
    if len(bad) > resolved.request.max_bad:
        raise BuildError(_bad_clips(bad, resolved.request.max_bad))
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
    write_json(folder / NAME, info)
    plan.path.unlink()
    rows = {split: sum(s["rows"] for s in shards) for split, shards in info["splits"].items()}
    return Prepared(folder, rows, len(bad), up_to_date=False)


def _bad_clips(bad: Sequence[Mapping[str, Any]], allowed: int) -> str:
    shown = [
        f"  {clip['key']}: {clip['reason']} (source {clip['source']}, "
        f"bytes {clip['offset']} to {clip['offset'] + clip['size']})"
        for clip in bad[:BAD_CLIPS_SHOWN]
    ]
    if len(bad) > BAD_CLIPS_SHOWN:
        shown.append(f"  … and {len(bad) - BAD_CLIPS_SHOWN} more")
    head = f"{len(bad)} bad clips, {allowed} allowed; leave them out with --max-bad {len(bad)}:"
    return "\n".join([head, *shown])


def _bar(results: Iterable[Any], total: int, progress: bool) -> Iterable[Any]:
    return tqdm(results, total=total, desc="building shards", unit="shard", disable=not progress)


def _check_space(folder: Path, plan: Plan) -> None:
    free = shutil.disk_usage(folder).free
    if plan.nbytes > free:
        raise OutputError(
            f"{folder}: the shards need about {plan.nbytes:,} bytes, {free:,} are free; "
            "make room or choose another --out"
        )


@contextmanager
def _no_space_is_one_line(out: Path) -> Iterator[None]:
    """A full or read-only disk is the person's to mend: one line, not a traceback."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        where = error.filename or out
        raise OutputError(
            f"{where}: {os.strerror(error.errno)}; what is finished is kept: "
            "mend that and run the same command again"
        ) from None
