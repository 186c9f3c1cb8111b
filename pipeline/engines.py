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
WORKER_DIED = (
    "a worker process died (killed, or out of memory); what it had finished is kept: "
    "run the same command again to go on, with fewer --workers if memory is short"
)
WORKER_NEVER_BEGAN = (
    "a worker process died before it finished anything: killed, out of memory, or started by a "
    'script whose own work is not under `if __name__ == "__main__":`; put it there, or take '
    "--engine serial"
)


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
        with _without_interrupts():
            for _ in range(workers):  # a process is started per waiting task: start them all now
                pool.submit(os.getpid)
        yield lambda function, tasks: _run_in_pool(pool, workers, function, tasks)
    except BaseException:
        # Whatever a worker has under way may be lost: it is written whole or not at all.
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back while processes start: they inherit that, and leave it to the driver."""
    if threading.current_thread() is not threading.main_thread() or os.name == "nt":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


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


ENGINES: dict[str, Callable[[int, Sequence[str]], AbstractContextManager[Run]]] = {
    "serial": serial,
    "local": local,
}
