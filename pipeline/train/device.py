"""Where a run computes: device, precision and processes, by Accelerate."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from pipeline.errors import UsageError, unknown_name

if TYPE_CHECKING:
    from accelerate import Accelerator

DEVICES = ("auto", "cpu", "cuda")
PRECISIONS = {"float32": "no", "bfloat16": "bf16"}


def device_of(name: str) -> torch.device:
    """What ``cpu``, ``cuda`` or ``auto`` (CUDA where there is one) stands for here.

    Raises:
        UsageError: it is not there, or none of these.
    """
    if name not in DEVICES:
        raise unknown_name("device", name, DEVICES)
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device=cuda: torch finds none here; expected cpu, or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


@contextlib.contextmanager
def accelerated(device: str, precision: str) -> "Iterator[Accelerator]":
    """An ``Accelerator``; under ``torchrun`` its processes have found each other.

    Accelerate remembers the device of the first one for as long as a process lives; it is made to
    forget, so that the next run may have another.

    Raises:
        UsageError: a device that is not there, or the library is not installed.
    """
    on_cpu = device_of(device).type == "cpu"
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError:
        raise UsageError(
            "training needs accelerate: install with: pip install 'shardwell[train]'"
        ) from None
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=PRECISIONS[precision])
    try:
        yield accelerator
    finally:
        accelerator.end_training()
        AcceleratorState._reset_state(reset_partial_state=True)


@contextlib.contextmanager
def own_draws(device: torch.device) -> Iterator[None]:
    """Inside, torch's generators may be seeded at will; outside, nobody notices."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def seed_step(seed: int, step: int, rank: int) -> None:
    """Make what a step draws (dropout) a function of these three.

    So a run that goes on after a step needs no generator's state.
    """
    torch.manual_seed((seed << 31) ^ (step << 10) ^ rank)
