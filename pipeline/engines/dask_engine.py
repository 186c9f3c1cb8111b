"""The engine of Dask: a cluster that is running somewhere, or one on this machine.

Dask sends functions and values by pickle: the address must be of a scheduler that you trust.
"""

import contextlib
import importlib.metadata
import itertools
import logging
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pipeline.engines.contract import (
    IN_FLIGHT_PER_WORKER,
    WORKER_DIED,
    WORKER_NEVER_BEGAN,
    Function,
    Probe,
    Run,
)
from pipeline.engines.local import without_interrupts
from pipeline.errors import BuildError, ShardwellError, UsageError

LOG = logging.getLogger(__name__)
CONNECT = 10  # seconds to reach a scheduler
JOIN = 60  # seconds until the first worker must be there
WORKERS_SHOWN = 3
SCHEDULER_LOST = (
    "the Dask scheduler was lost on the way; what is finished is kept: run the same command again "
    "once it is back"
)
_PASSED: set[str] = set()  # in a worker: the runs whose probe this process has passed


@contextlib.contextmanager
def dask(workers: int, preload: Sequence[str], address: str | None = None) -> Iterator[Run]:
    """The workers of the scheduler at ``address``, or ``workers`` new ones on this machine.

    Raises:
        UsageError: Dask is not installed.
        BuildError: the scheduler can't be reached.
    """
    distributed = _distributed()
    with contextlib.ExitStack() as stack:
        # Dask logs every process that ends, at shutdown above all; a person reads our one line.
        stack.enter_context(distributed.utils.silence_logging_cmgr(logging.CRITICAL))
        if address is None:
            address = stack.enter_context(_local_cluster(distributed, workers, preload))
        client = stack.enter_context(_client(distributed, address))

        def run(
            function: Function, tasks: Iterable[Any], probe: Probe | None = None
        ) -> Iterator[Any]:
            return _run_on(distributed, client, function, tasks, probe)

        yield run


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise UsageError("--engine dask needs Dask: pip install 'shardwell[dask]'") from None
    return distributed


@contextlib.contextmanager
def _local_cluster(distributed: Any, workers: int, preload: Sequence[str]) -> Iterator[str]:
    """Processes of one thread each; the scheduler's address."""
    with tempfile.TemporaryDirectory(prefix="shardwell-", ignore_cleanup_errors=True) as folder:
        try:
            with without_interrupts():
                cluster = distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    # Without an address the scheduler would take port 8787, for all to see.
                    scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                    silence_logs=logging.CRITICAL,
                    local_directory=folder,
                    memory_limit=0,  # Dask would count the pages of a mapped archive as memory
                    preload=list(preload),
                )
        except RuntimeError:  # how Dask says that a process ended at its start
            raise BuildError(WORKER_NEVER_BEGAN) from None
        with cluster:
            yield cluster.scheduler_address


@contextlib.contextmanager
def _client(distributed: Any, address: str) -> Iterator[Any]:
    try:
        client = distributed.Client(address, timeout=CONNECT, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:  # how Dask says it of various wrong addresses
        raise BuildError(
            f"no Dask scheduler answers at {address} ({_one_line(error)}); "
            "is it running, and is this the address that it printed?"
        ) from None
    with client:
        yield client


def _run_on(
    distributed: Any,
    client: Any,
    function: Function,
    tasks: Iterable[Any],
    probe: Probe | None,
) -> Iterator[Any]:
    """Submit tasks, a bounded number at a time; yield results as they finish.

    When the client is closed, whatever is still waiting is cancelled by the scheduler.
    """
    run, todo = uuid.uuid4().hex, enumerate(tasks)
    finished, waiting = distributed.as_completed(loop=client.loop), 0
    try:
        _check_workers(client, run, probe)
        while True:
            free = _threads(client) * IN_FLIGHT_PER_WORKER - waiting
            for number, task in itertools.islice(todo, max(free, not waiting)):
                key = f"shardwell-{run}-{number}"  # never taken for a task of another run
                finished.add(client.submit(_do, run, probe, function, task, key=key))
                waiting += 1
            if not waiting:
                return
            future = next(finished)
            waiting -= 1
            yield future.result()
    except distributed.KilledWorker:  # one task after the other worker: Dask gave up on it
        raise BuildError(WORKER_DIED) from None
    except (distributed.CancelledError, distributed.comm.CommClosedError):
        raise BuildError(SCHEDULER_LOST) from None


def _threads(client: Any) -> int:
    """Of all workers there are now: they may come and go."""
    try:
        return sum(client.nthreads().values())
    except OSError:
        raise BuildError(SCHEDULER_LOST) from None


def _check_workers(client: Any, run: str, probe: Probe | None) -> None:
    """Raise BuildError unless there are workers and all of them pass the probe."""
    try:
        client.wait_for_workers(1, timeout=JOIN)
    except TimeoutError:
        raise BuildError(
            f"no Dask worker has joined within {JOIN} s; start some, then run the command again"
        ) from None
    answers = client.run(_pass, run, probe, on_error="return")
    failed = {worker: error for worker, error in answers.items() if error is not None}
    if failed:
        shown = [f"worker {w}: {_lack(e)}" for w, e in [*failed.items()][:WORKERS_SHOWN]]
        more = len(failed) - len(shown)
        raise BuildError("; ".join(shown) + (f"; and {more} workers more" if more else ""))


def _lack(error: BaseException) -> str:
    """What a worker that failed the probe lacks."""
    if isinstance(error, ShardwellError):
        return str(error)
    version = importlib.metadata.version("shardwell")  # functions are sent by name: it has no such
    return f"{_one_line(error)}; install shardwell=={version} there, as it is here"


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _pass(run: str, probe: Probe | None) -> None:
    """In a worker: call a run's probe, once."""
    if run not in _PASSED:
        if probe:
            probe()
        _PASSED.add(run)


def _do(run: str, probe: Probe | None, function: Function, task: Any) -> Any:
    """In a worker: one task. A worker that joined after the others is probed by its first one."""
    import distributed

    try:
        _pass(run, probe)
    except ShardwellError as error:
        raise type(error)(f"worker {distributed.get_worker().address}: {error}") from None
    return function(task)
