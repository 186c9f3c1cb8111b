"""``prepare_dataset``: the whole walk from a request to a sealed dataset."""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline.archive import Opened, open_source
from pipeline.build import Job, build
from pipeline.cores import usable_cores
from pipeline.dataset import seal
from pipeline.engines import ENGINES, WITH_ADDRESS, WORKER_NEVER_BEGAN
from pipeline.errors import RecipeError, ShardwellError, UsageError, unknown_name
from pipeline.fetch import Verified, byte_bar, check, fetch, generate, generated_path, quiet
from pipeline.files import flush
from pipeline.holding import holding
from pipeline.manifest import Source
from pipeline.plan import Plan, read_rows, write_plan
from pipeline.prepare.checks import (
    check_bad_clips,
    check_promises,
    check_space,
    disk_errors_in_one_line,
)
from pipeline.prepare.output import (
    PLAN_NAME,
    Output,
    Prepared,
    check_output,
    explain,
    find,
    one_at_a_time,
    output_of,
    prepared,
    seal_output,
    unseal,
)
from pipeline.prepare.request import Request, Resolved, resolve, source_key
from pipeline.probe import probe_of
from pipeline.recipe import Corpus
from pipeline.records import Example
from pipeline.ship import ship

PRELOAD = ("pipeline.build",)


def prepare_dataset(request: Request) -> Prepared:
    """Build the dataset that a request declares, or find that it is there.

    Raises:
        ShardwellError: see ``pipeline/errors.py``; what was finished before stays for the next run.
    """
    _check_process()
    resolved = resolve(request)
    with disk_errors_in_one_line():
        files = generated_files(resolved)
        declaration = resolved.declaration(hashes_of(resolved, files))
        output = output_of(resolved, declaration)
        found = find(resolved, declaration, output)
        if found:
            return found
        check_output(output)
        explain(declaration, output)
        with one_at_a_time(output):
            found = find(resolved, declaration, output)  # the run that we waited for made it
            if found:
                return found
            unseal(output)  # its shards are damaged: build them again
            files |= _outside_files(resolved, skip=files)
            return _build(resolved, declaration, output, files)


def _check_process() -> None:
    """Raise UsageError in a worker that runs its driver's script once more, and would wait for it.

    So it goes where the script's own work is not under ``if __name__ == "__main__":``.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UsageError(WORKER_NEVER_BEGAN)


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


def hashes_of(resolved: Resolved, files: Mapping[str, Verified]) -> dict[str, str]:
    """Role → sha256 (hex), of the generated files at hand and as the manifest pins the others."""
    return {
        role: files[role].sha256 if role in files else str(source.sha256)
        for role, source in resolved.sources.items()
    }


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
    output: Output,
    files: Mapping[str, Verified],
) -> Prepared:
    """Open the sources, plan, build every shard, seal."""
    request = resolved.request
    workers = request.workers or usable_cores()
    with (
        ENGINES[request.engine](workers, PRELOAD, request.address) as run,
        holding(*(file.path for file in files.values())),
        contextlib.ExitStack() as reading,
    ):
        opened: dict[str, Opened] = {}
        for role, file in files.items():  # held one by one: the next may take minutes to inflate
            opened |= open_all(resolved, {role: file})
            reading.enter_context(holding(opened[role].path))
        folder = output.folder
        folder.mkdir(parents=True, exist_ok=True)
        try:
            plan = make_plan(resolved, opened, folder / PLAN_NAME)
        except ShardwellError:
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()
            raise
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
        probe = probe_of(job, output.url) if request.engine in WITH_ADDRESS else None
        if output.url is None:
            check_space(folder, plan)
            results = _flushed(folder, run(partial(build, job), plan.tasks, probe))
        else:
            work = ((task, read_rows(plan.path, task)) for task in plan.tasks)
            results = run(partial(ship, output.url, job), work, probe)
        bar = _bar(results, len(plan.tasks), request.progress)
        sidecars = {sidecar["shard"]: sidecar for sidecar in bar}
    return _seal(resolved, declaration, output, plan, [sidecars[t.shard] for t in plan.tasks])


def _flushed(folder: Path, sidecars: Iterable[Any]) -> Iterator[Any]:
    """Pass the results on; wait for the disk while workers go on, and for all of it at the end."""
    with ThreadPoolExecutor(1) as flusher:
        waiting = []
        for sidecar in sidecars:
            names = (f"{sidecar['shard']}.{ending}" for ending in ("arrow", "json"))
            waiting += [flusher.submit(flush, folder / name) for name in names]
            yield sidecar
    for flushed in waiting:
        flushed.result()


def open_all(resolved: Resolved, files: Mapping[str, Verified]) -> dict[str, Opened]:
    """Role → source readable in place, inflated where needed."""
    opened = {}
    for role, file in files.items():
        name = resolved.sources[role].name
        total = file.path.stat().st_size
        with (
            byte_bar(f"opening {file.path.name}", total, resolved.request.progress) as bar,
            ThreadPoolExecutor(1) as pool,
        ):
            proof = pool.submit(file.prove)
            opened[role] = open_source(
                name, file.path, file.sha256, resolved.cache, bar.update, proof.result
            )
    return opened


def make_plan(resolved: Resolved, opened: Mapping[str, Opened], path: Path) -> Plan:
    """Write the plan and hold it against the protocol's promises.

    Raises:
        BuildError: a split has another number of examples than the protocol promises.
    """
    recipe = resolved.recipe
    corpus, audio = Corpus(opened), resolved.audio
    examples = _examples(recipe.name, partial(recipe.examples, corpus, **resolved.params))
    if recipe.noise and resolved.with_noise:
        cut = partial(recipe.noise, corpus, audio.duration if audio else None)
        examples = chain(examples, _examples(recipe.name, cut))
    rate = resolved.recorded_rate
    plan = write_plan(path, examples, recipe.labels, resolved.feature, audio, rate)
    check_promises(resolved, plan.rows)
    return plan


def _examples(recipe: str, found: Callable[[], Iterator[Example]]) -> Iterator[Example]:
    """Examples of a recipe; what its code may raise becomes one line."""
    try:
        yield from found()
    except ShardwellError:
        raise
    except Exception as error:  # whatever a stranger's recipe may raise
        what = f"{type(error).__name__}: {error}"
        raise RecipeError(f"recipe {recipe}: examples failed: {what}") from error


def _seal(
    resolved: Resolved,
    declaration: Mapping[str, Any],
    output: Output,
    plan: Plan,
    sidecars: Sequence[Mapping[str, Any]],
) -> Prepared:
    """Merge the sidecars into ``dataset.json``, unless too many clips are bad."""
    findings = [finding for sidecar in sidecars for finding in sidecar["findings"]]
    check_bad_clips(findings, resolved.request.max_bad)
    extra = {
        "promised": dict(resolved.promised),
        "hints": dict(resolved.recipe.hints),
        "corpus": {
            "title": resolved.manifest.title,
            "licence": resolved.manifest.licence,
            "redistribution": resolved.manifest.redistribution,
            "homepage": resolved.manifest.homepage,
            "citation": resolved.manifest.citation,
            "languages": list(resolved.manifest.languages),
            "protocol": resolved.protocol.about,
        },
    }
    info = seal(declaration, resolved.columns, plan.classes, sidecars, extra)
    seal_output(output, info)
    return prepared(output, info, up_to_date=False)


def _bar(results: Iterable[Any], total: int, progress: bool) -> Iterable[Any]:
    return tqdm(results, total=total, desc="building shards", unit="shard", disable=quiet(progress))
