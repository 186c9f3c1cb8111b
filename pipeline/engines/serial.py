"""The engine without workers."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pipeline.engines.contract import Function, Probe, Run


@contextlib.contextmanager
def serial(workers: int, preload: Sequence[str], address: str | None = None) -> Iterator[Run]:
    """One task after the other in this process."""

    def run(function: Function, tasks: Iterable[Any], probe: Probe | None = None) -> Iterator[Any]:
        yield from map(function, tasks)

    yield run
