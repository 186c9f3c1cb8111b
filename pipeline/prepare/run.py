"""``prepare_dataset``: the whole walk from a request to a sealed dataset."""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline.archive import Opened
from pipeline.build import Job, build
from pipeline.cores import usable_cores
from pipeline.dataset import seal
from pipeline.engines import ENGINES, WITH_ADDRESS, WORKER_NEVER_BEGAN
from pipeline.errors import ShardwellError, SourceError, UsageError
from pipeline.fetch import Verified, quiet
from pipeline.files import flush
from pipeline.holding import holding
from pipeline.plan import Plan, read_rows, write_plan
from pipeline.prepare.checks import (
    check_bad_clips,
    check_promises,
    check_space,
    disk_errors_in_one_line,
)
from pipeline.prepare.files import (
    fitted,
    hashes_of,
    in_one_line,
    open_all,
    outside_files,
    settled,
    unpinned_files,
)
from pipeline.prepare.output import (
    PLAN_NAME,
    Output,
    Prepared,
    check_output,
    corpus_of,
    explain,
    find,
    forget,
    one_at_a_time,
    output_of,
    prepared,
    retell,
    seal_output,
    unseal,
)
from pipeline.prepare.request import Request, Resolved, resolve
from pipeline.probe import probe_of
from pipeline.recipe import Corpus
from pipeline.ship import ship

PRELOAD = ("pipeline.build",)


def prepare_dataset(request: Request) -> Prepared:
    """Build the dataset that a request declares, or find that it is there.

    Raises:
        ShardwellError: see ``pipeline/errors.py``; what was finished before stays for the next run.
    """
    _check_process()
    resolved = settled(resolve(request))
    with disk_errors_in_one_line():
        files = unpinned_files(resolved)
        declaration = resolved.declaration(hashes_of(resolved, files))
        output = output_of(resolved, declaration)
        found = find(resolved, declaration, output)
        if found:
            retell(resolved, output)
            return found
        check_output(output)
        explain(declaration, output)
        with one_at_a_time(output):
            found = find(resolved, declaration, output)  # the run that we waited for made it
            if found:
                return found
            unseal(output)  # its shards are damaged: build them again
            files |= outside_files(resolved, skip=files)
            return _build(resolved, declaration, output, files)


def _check_process() -> None:
    """Raise UsageError in a worker that runs its driver's script once more, and would wait for it.

    So it goes where the script's own work is not under ``if __name__ == "__main__":``.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UsageError(WORKER_NEVER_BEGAN)


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
        later() as keep,
    ):
        opened = open_all(resolved, files, keep, lambda path: reading.enter_context(holding(path)))
        resolved = fitted(resolved, opened)
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
            results = _flushed(folder, run(partial(build, job), plan.tasks, probe), keep)
        else:
            work = ((task, read_rows(plan.path, task)) for task in plan.tasks)
            results = run(partial(ship, output.url, job), work, probe)
        bar = _bar(results, len(plan.tasks), request.progress)
        sidecars = {sidecar["shard"]: sidecar for sidecar in bar}
    _prove_own(files, output, sidecars)
    return _seal(resolved, declaration, output, plan, [sidecars[t.shard] for t in plan.tasks])


def _prove_own(files: Mapping[str, Verified], output: Output, shards: Iterable[str]) -> None:
    """Raise SourceError if a file of a person was changed meanwhile; then no shard is kept."""
    try:
        for file in files.values():
            file.prove()
    except SourceError:
        forget(output, shards)
        raise


@contextlib.contextmanager
def later() -> Iterator[Callable[[Callable[[], None]], object]]:
    """Takes work that waits for the disk; at the end all of it is done, or its error is raised."""
    with ThreadPoolExecutor(1) as thread:
        waiting: list[Future[None]] = []
        yield lambda work: waiting.append(thread.submit(work))
    for done in waiting:
        done.result()


def _flushed(
    folder: Path, sidecars: Iterable[Any], keep: Callable[[Callable[[], None]], object]
) -> Iterator[Any]:
    """Pass the results on; their shards are flushed while workers go on."""
    for sidecar in sidecars:
        for ending in ("arrow", "json"):
            keep(partial(flush, folder / f"{sidecar['shard']}.{ending}"))
        yield sidecar


def make_plan(resolved: Resolved, opened: Mapping[str, Opened], path: Path) -> Plan:
    """Write the plan and hold it against the protocol's promises.

    Raises:
        BuildError: a split has another number of examples than the protocol promises.
    """
    recipe = resolved.recipe
    corpus, audio = Corpus(opened), resolved.audio
    found = partial(recipe.examples, corpus, **resolved.params)
    examples = in_one_line(recipe.name, "examples", found)
    if recipe.noise and resolved.with_noise:
        cut = partial(recipe.noise, corpus, audio.duration if audio else None)
        examples = chain(examples, in_one_line(recipe.name, "noise", cut))
    rate = resolved.recorded_rate
    plan = write_plan(path, examples, recipe.labels, resolved.feature, audio, rate)
    check_promises(resolved, plan.rows)
    return plan


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
        "corpus": corpus_of(resolved),
    }
    info = seal(declaration, resolved.columns, plan.classes, sidecars, extra)
    seal_output(output, info)
    return prepared(output, info, up_to_date=False)


def _bar(results: Iterable[Any], total: int, progress: bool) -> Iterable[Any]:
    return tqdm(results, total=total, desc="building shards", unit="shard", disable=quiet(progress))
