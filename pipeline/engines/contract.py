"""What every engine keeps: the types of the seam, and what is said when a worker dies."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

Function = Callable[[Any], Any]
Probe = Callable[[], None]
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


class Run(Protocol):
    """What an engine yields: ``run(function, tasks)`` gives one result per task, in any order.

    ``probe`` is called in every worker that may see other files or other libraries than this
    process, before its first task; what it raises, ``run`` raises with the worker's name.
    """

    def __call__(
        self, function: Function, tasks: Iterable[Any], probe: Probe | None = None
    ) -> Iterator[Any]: ...


class Engine(Protocol):
    """Starts ``workers`` workers, which import the modules of ``preload``; or uses a cluster's.

    ``address`` is the cluster's, for an engine that has one.
    """

    def __call__(
        self, workers: int, preload: Sequence[str], address: str | None = None
    ) -> AbstractContextManager[Run]: ...
