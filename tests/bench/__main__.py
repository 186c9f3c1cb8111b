"""Runs the benchmarks and prints their tables; ``RESULTS.md`` holds the ones we reported."""

import argparse
import importlib
import platform
from pathlib import Path

from pipeline.cores import usable_cores

NAMES = ("start_workers", "features", "prepare", "load", "publish")


def machine() -> str:
    """The processor and its cores, for the head of a table."""
    model = platform.processor() or platform.machine()
    with Path("/proc/cpuinfo").open() as info:
        model = next((line.split(":")[1].strip() for line in info if "model name" in line), model)
    return f"{model}, {usable_cores()} cores, Python {platform.python_version()}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*", default=NAMES, help=f"of {', '.join(NAMES)}")
    print(machine())
    for name in parser.parse_args().name:
        importlib.import_module(f"tests.bench.{name}").run()
