"""Saved models: one safetensors file each, what it is as JSON in the file's own header.

One file is whole or absent, however a run ends; weights and what they belong to can't be mixed up.
Reading runs no code.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import ModelError
from pipeline.files import written

FORMAT = 1
BEST, LAST = "best.safetensors", "last.safetensors"
HEADER = "shardwell"  # the header's key; its value is JSON
WEIGHTS, OPTIMIZER = "weights.", "optimizer."

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Description:
    """What a saved model is: enough to build it and to hear a file as it did in training.

    Attributes:
        model, options: name and options in ``MODELS``.
        target, names: the label that was learnt, and what the outputs stand for.
        features: the feature definition that the model sees, as ``features.to_dict`` gives it.
        shape: of one example's features; None where the length is open.
        audio: how clips became samples; None for data that is not audio.
        hears: whether the model was trained on samples and computes its features itself.
        dataset: recipe, protocol and the like of the data, to be told.
        settings: the run's, to be told.
    """

    model: str
    options: Mapping[str, Any]
    target: str
    names: tuple[str, ...]
    features: Mapping[str, Any]
    shape: tuple[int | None, ...]
    audio: Mapping[str, Any] | None
    hears: bool
    dataset: Mapping[str, Any]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Saved:
    """A checkpoint: ``progress`` is where training was, plain values."""

    description: Description
    weights: Tensors
    optimizer: Tensors
    progress: Mapping[str, Any]


def save(path: Path, saved: Saved) -> None:
    """Write a checkpoint, whole or not at all."""
    from safetensors.torch import save as to_bytes

    tensors = {WEIGHTS + name: tensor for name, tensor in saved.weights.items()}
    tensors |= {OPTIMIZER + name: tensor for name, tensor in saved.optimizer.items()}
    header = {
        "format": FORMAT,
        "description": asdict(saved.description),
        "progress": dict(saved.progress),
    }
    own = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in tensors.items()}
    with written(path) as temporary:
        temporary.write_bytes(to_bytes(own, {HEADER: json.dumps(header, allow_nan=False)}))


def load(where: Path, name: str = BEST) -> Saved:
    """Read a checkpoint: a file, or the one of that name in a run's folder.

    Raises:
        ModelError: there is none, or it is damaged, foreign or of another version.
    """
    from safetensors import SafetensorError, safe_open

    path = where / name if where.is_dir() else where
    try:
        with safe_open(path, "pt") as file:
            header = json.loads((file.metadata() or {}).get(HEADER, "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ModelError(
            f"{path}: expected a saved model, got no such file; make one with: shardwell train DIR"
        ) from None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not a whole saved model: {error}; train it again") from None
    try:
        if header["format"] != FORMAT:
            raise ModelError(f"{path}: expected format {FORMAT}, got {header['format']!r}")
        values = header["description"]
        values |= {"names": tuple(values["names"]), "shape": tuple(values["shape"])}
        if set(values) != {f.name for f in fields(Description)}:
            raise ValueError(f"described by {', '.join(values)}")
        description, progress = Description(**values), dict(header["progress"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: a safetensors file, but no model of ours: {error}") from None
    parts = (
        {key.removeprefix(kind): t for key, t in tensors.items() if key.startswith(kind)}
        for kind in (WEIGHTS, OPTIMIZER)
    )
    return Saved(description, next(parts), next(parts), progress)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """What an optimizer has gathered: ``<number of the parameter>.<name>`` → tensor."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": t for i, own in state.items() for name, t in own.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Give an optimizer what ``optimizer_tensors`` took from another of its kind."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
