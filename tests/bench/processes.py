"""Whole processes: how long they take and how much memory."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# The kernel counts what the starter of a process holds as the process's own peak. So a small
# interpreter starts it, and tells what it found on its standard output.
STARTER = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
status = subprocess.run(sys.argv[1:], stdout=sys.stderr).returncode
seconds = time.perf_counter() - begin
print(json.dumps([status, seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


def measured(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> tuple[float, int]:
    """Seconds that a process takes, start-up included, and the peak of its memory in MB.

    The memory is that of the largest one of the processes that it starts and waits for, too.

    Args:
        command: what to run.
        log: where its output goes.
        environment: what is added to this process's own.

    Raises:
        SystemExit: it failed; with the end of its output.
    """
    with log.open("wb") as file:
        started = subprocess.run(
            [sys.executable, "-S", "-c", STARTER, *command],
            stdout=subprocess.PIPE,
            stderr=file,
            env=os.environ | (environment or {}),
            check=False,
        )
    status, seconds, kilobytes = json.loads(started.stdout or "[1, 0, 0]")
    if status:
        raise SystemExit(f"{command[:6]} failed: {log.read_text()[-2000:]}")
    return seconds, kilobytes // 1024
