"""How many cores this process may use: fewer than there are, under Slurm or in a container."""

import os


def usable_cores() -> int:
    """The cores that the system lets this process run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
