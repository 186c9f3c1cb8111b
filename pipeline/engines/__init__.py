"""Runs one function over many tasks and yields results as they finish.

An engine is a context manager: entering it starts its workers (while the caller still prepares the
tasks), and gives a ``run(function, tasks)`` that yields one result per task, in any order. The
function must be a module-level function or a ``functools.partial`` of one. What it raises, ``run``
raises. A new engine is one function and one line in ``ENGINES``.
"""

from pipeline.engines.contract import WORKER_NEVER_BEGAN, Engine, Probe, Run
from pipeline.engines.dask_engine import dask
from pipeline.engines.local import local
from pipeline.engines.serial import serial

__all__ = ["ENGINES", "WITH_ADDRESS", "WORKER_NEVER_BEGAN", "Engine", "Probe", "Run"]

ENGINES: dict[str, Engine] = {"serial": serial, "local": local, "dask": dask}
WITH_ADDRESS = ("dask",)  # engines whose workers may run already, and on other machines
