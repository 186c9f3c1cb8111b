"""Where a run computes: device, precision and processes, by Accelerate."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from pipeline.errors import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

PRECISIONS = {"float32": "no", "bfloat16": "bf16"}


@contextlib.contextmanager
def accelerated(device: str, precision: str) -> "Iterator[Accelerator]":
    """An ``Accelerator``; under ``torchrun`` its processes have found each other.

    Accelerate remembers the device of the first one for as long as a process lives; it is made to
    forget, so that the next run may have another.

    Raises:
        UsageError: a device that is not there, or the library is not installed.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device=cuda: torch finds none here; expected cpu, or auto")
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError:
        raise UsageError(
            "training needs accelerate: install with: pip install 'shardwell[train]'"
        ) from None
    accelerator = Accelerator(
        cpu=device == "cpu" or not torch.cuda.is_available(),
        mixed_precision=PRECISIONS[precision],
    )
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
