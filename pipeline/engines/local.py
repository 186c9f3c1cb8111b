"""The engine of processes on this machine."""

import contextlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.resource_tracker
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from pipeline.engines.contract import (
    IN_FLIGHT_PER_WORKER,
    WORKER_DIED,
    WORKER_NEVER_BEGAN,
    Function,
    Probe,
    Run,
)
from pipeline.errors import BuildError

LONGEST_START = 5.0  # seconds that an interrupted run waits for its workers to have begun


@contextlib.contextmanager
def local(workers: int, preload: Sequence[str], address: str | None = None) -> Iterator[Run]:
    """``workers`` processes on this machine.

    They are forked from a fork server that has imported the modules of ``preload`` once; where
    there is no fork server (Windows) they are spawned. Measured on two cores: see
    ``tests/bench/RESULTS.md``, "Starting workers".
    """
    has_server = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if has_server else "spawn")
    if has_server:
        context.set_forkserver_preload(list(preload))
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_worker_begins, initargs=(dict(os.environ),)
    )
    begun: list[Future[int]] = []
    try:
        with without_interrupts():
            for _ in range(workers):  # a process is started per waiting task: start them all now
                begun.append(pool.submit(os.getpid))
        yield _runner(pool, workers)
    except BaseException:
        # One that has not begun yet would complain of what is gone when it does.
        wait(begun, timeout=LONGEST_START)
        # Whatever a worker has under way may be lost: it is written whole or not at all.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back while processes start: they inherit that, and leave it to the driver."""
    if threading.current_thread() is not threading.main_thread() or os.name == "nt":
        yield
        return
    # This process of multiprocessing's own lets Ctrl-C through again when it is started.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _worker_begins(environment: Mapping[str, str]) -> None:
    """A worker has the driver's environment, leaves Ctrl-C to it, and ends when it is gone."""
    # The fork server keeps the environment of its own start, which may be long ago.
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    driver = multiprocessing.parent_process()
    if driver is not None:
        sentinel = driver.sentinel

        def follow_driver() -> None:
            multiprocessing.connection.wait([sentinel])
            os._exit(1)

        threading.Thread(target=follow_driver, daemon=True).start()


def _runner(pool: ProcessPoolExecutor, workers: int) -> Run:
    def run(function: Function, tasks: Iterable[Any], probe: Probe | None = None) -> Iterator[Any]:
        return _run_in_pool(pool, workers, function, tasks)

    return run


def _run_in_pool(
    pool: ProcessPoolExecutor, workers: int, function: Function, tasks: Iterable[Any]
) -> Iterator[Any]:
    """Submit tasks, a bounded number at a time; yield results as they finish."""
    waiting: set[Future[Any]] = set()
    todo, finished = iter(tasks), 0
    try:
        while True:
            for task in todo:
                waiting.add(pool.submit(function, task))
                if len(waiting) >= workers * IN_FLIGHT_PER_WORKER:
                    break
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
                finished += 1
    except BrokenProcessPool:
        raise BuildError(WORKER_DIED if finished else WORKER_NEVER_BEGAN) from None
    finally:
        for future in waiting:
            future.cancel()
