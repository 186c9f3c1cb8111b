"""Whether shardwell can work here: one finding per check, and what to do where all is not well.

Every check stands alone: a library that can't even be imported is one finding, and the others are
still made. Nothing here imports one of shardwell's rooms that needs such a library, or touches the
network.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from pipeline.doctor import libraries, machine
from pipeline.doctor.finding import FAIL, OK, WARN, Finding

__all__ = ["FAIL", "OK", "WARN", "Finding", "examine"]


def examine(out: Path | str, cache: Path) -> Iterator[Finding]:
    """Every finding, for datasets that go to ``out`` (a folder or a URL) with that cache."""
    checks: dict[str, Callable[[], Finding]] = {
        "Python": libraries.python,
        "NumPy and Arrow": libraries.arrays,
        "torch": libraries.torch,
        "GPU": libraries.gpu,
        "torchaudio": libraries.torchaudio,
        "feature kernel": libraries.kernel,
        "batch gathering": libraries.gathering,
        "audio files": libraries.audio_files,
        "resampling": libraries.resampling,
        "gzip": libraries.inflating,
        "extras": libraries.extras,
        "cores": machine.cores,
        "output": partial(machine.output, out),
        "cache": partial(machine.cache, cache),
        "open files": machine.open_files,
        "shared memory": machine.shared_memory,
        "Hub token": machine.hub_token,
    }
    for name, check in checks.items():
        yield _isolated(name, check)


def _isolated(name: str, check: Callable[[], Finding]) -> Finding:
    """A check's finding; whatever a broken installation may raise is one, too."""
    try:
        return check().named(name)
    except Exception as error:
        said = " ".join(str(error).split()) or "no reason given"
        remedy = "install shardwell again in a new environment; see the README"
        return Finding(FAIL, f"{type(error).__name__}: {said}", remedy, name)
