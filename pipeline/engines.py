"""Runs one function over many tasks and yields results as they finish.

An engine is a context manager: entering it starts its workers (while the caller still prepares the
tasks), and gives a ``run(function, tasks)`` that yields one result per task, in any order. The
function must be a module-level function or a ``functools.partial`` of one. What it raises, ``run``
raises. A new engine is one function and one line in ``ENGINES``.
"""

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager
from typing import Any

from pipeline.errors import BuildError

Run = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]
IN_FLIGHT_PER_WORKER = 2


@contextlib.contextmanager
def serial(workers: int, preload: Sequence[str]) -> Iterator[Run]:
    """One task after the other in this process."""

    def run(function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        yield from map(function, tasks)

    yield run


@contextlib.contextmanager
def local(workers: int, preload: Sequence[str]) -> Iterator[Run]:
    """``workers`` processes on this machine.

    They are forked from a fork server that has imported the modules of ``preload`` once; where
    there is no fork server (Windows) they are spawned. Measured on two cores: see
    ``tests/bench/RESULTS.md``, "Starting workers".
    """
    has_server = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if has_server else "spawn")
    if has_server:
        context.set_forkserver_preload(list(preload))
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_worker_begins)
    try:
        for _ in range(workers):  # a process is started per waiting task: start them all now
            pool.submit(os.getpid)
        yield lambda function, tasks: _run_in_pool(pool, workers, function, tasks)
    finally:
        pool.shutdown(cancel_futures=True)


def _worker_begins() -> None:
    """A worker leaves Ctrl-C to the driver, and ends when the driver is gone, however it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    driver = multiprocessing.parent_process()
    if driver is not None:
        sentinel = driver.sentinel

        def follow_driver() -> None:
            multiprocessing.connection.wait([sentinel])
            os._exit(1)

        threading.Thread(target=follow_driver, daemon=True).start()


def _run_in_pool(
    pool: ProcessPoolExecutor,
    workers: int,
    function: Callable[[Any], Any],
    tasks: Iterable[Any],
) -> Iterator[Any]:
    """Submit tasks, a bounded number at a time; yield results as they finish."""
    waiting: set[Future[Any]] = set()
    todo = iter(tasks)
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
    except BrokenProcessPool:
        raise BuildError(
            "a worker process died (killed, or out of memory); what it had finished is kept: "
            "run the same command again to go on, with fewer --workers if memory is short"
        ) from None
    finally:
        for future in waiting:
            future.cancel()


ENGINES: dict[str, Callable[[int, Sequence[str]], AbstractContextManager[Run]]] = {
    "serial": serial,
    "local": local,
}
