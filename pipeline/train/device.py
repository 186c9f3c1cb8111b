"""Where a run computes: device, precision and processes, by Accelerate."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

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


def add_up_in_order(model: nn.Module) -> None:
    """Have what several processes found as a model's gradients added up in the order of these.

    A ring of processes adds each part of its message up in another order, and torch puts gradients
    together otherwise after the first step of a process than in it. So a run of three that goes on
    would round otherwise than one that was never cut off. On a GPU nobody promises its bits.
    """
    if isinstance(model, DistributedDataParallel) and model.device_type == "cpu":
        model.register_comm_hook(None, lambda state, bucket: _mean(bucket.buffer()))


def _mean(own: torch.Tensor) -> torch.futures.Future[torch.Tensor]:
    """The mean of a tensor over all processes, some time later."""
    parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
    gathering = distributed.all_gather(parts, own, async_op=True)

    def mean(gathered: object) -> torch.Tensor:
        total = parts[0]
        for part in parts[1:]:
            total += part
        return total / len(parts)

    found: torch.futures.Future[torch.Tensor] = gathering.get_future().then(mean)
    return found


def share_buffers(model: nn.Module) -> None:
    """Give all processes the first one's buffers: each has running means of its own batches."""
    if distributed.is_available() and distributed.is_initialized():
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)
