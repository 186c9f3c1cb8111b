"""Saved models: one safetensors file each, what it is as JSON in the file's own header.

One file is whole or absent, however a run ends; weights and what they belong to can't be mixed up.
Reading runs no code.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from reprlib import repr as brief
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import torch

from pipeline.errors import ModelError, UsageError
from pipeline.files import written
from pipeline.train.models import entry

FORMAT = 2
BEST, LAST = "best.safetensors", "last.safetensors"
HEADER = "shardwell"  # the header's key; its value is JSON
WEIGHTS, OPTIMIZER = "weights.", "optimizer."
ADAM, SGD = {"step", "exp_avg", "exp_avg_sq"}, {"momentum_buffer"}  # what they gather
ANEW = "train it again, with another --out"

Tensors = Mapping[str, torch.Tensor]
Made = TypeVar("Made")


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
        raise ModelError(f"{path}: not a whole saved model: {error}; {ANEW}") from None
    try:
        if header["format"] != FORMAT:
            raise ModelError(
                f"{path}: expected format {FORMAT}, got {brief(header['format'])}: another version "
                f"of shardwell saved it; {ANEW}"
            )
        description, progress = typed(Description, header["description"]), dict(header["progress"])
        entry(description.model)  # refuses what nobody knows
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise ModelError(f"{path}: a safetensors file, but no model of ours: {error}") from None
    parts = (
        {key.removeprefix(kind): t for key, t in tensors.items() if key.startswith(kind)}
        for kind in (WEIGHTS, OPTIMIZER)
    )
    return Saved(description, next(parts), next(parts), progress)


def typed(kind: type[Made], values: Mapping[str, Any]) -> Made:
    """A dataclass of what JSON has kept of it.

    Raises:
        TypeError: a field is missing or unknown, or a value is of another type than its field.
    """
    hints = get_type_hints(kind)
    if set(values) != set(hints):
        raise TypeError(f"expected the fields {', '.join(hints)}, got {', '.join(values)}")
    own = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    for name, hint in hints.items():
        if not _is(own[name], hint):
            wanted = getattr(hint, "__name__", hint)
            raise TypeError(f"{name}={brief(values[name])}: expected {wanted}")
    return kind(**own)


def _is(value: Any, hint: Any) -> bool:
    """Whether a value is of a type, the items of a tuple of theirs."""
    if isinstance(hint, UnionType):
        return any(_is(value, kind) for kind in get_args(hint))
    if get_origin(hint) is tuple:
        item, _ = get_args(hint)
        return isinstance(value, tuple) and all(_is(one, item) for one in value)
    return isinstance(value, get_origin(hint) or hint)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> Tensors:
    """What an optimizer has gathered: ``<number of the parameter>.<name>`` → tensor."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{name}": t for i, own in state.items() for name, t in own.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Give an optimizer what ``optimizer_tensors`` took from another of its kind.

    Raises:
        ValueError: it was another kind, or of other parameters.
    """
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = tensor
    shapes = [own.shape for group in optimizer.param_groups for own in group["params"]]
    names = SGD if isinstance(optimizer, torch.optim.SGD) else ADAM
    for n, own in state.items():  # torch looks at none of this before the first step
        if n not in range(len(shapes)) or own.keys() != names:
            raise ValueError(f"an optimizer of {len(shapes)} parameters: got {n}.{', '.join(own)}")
        if any(tensor.shape not in ((), shapes[n]) for tensor in own.values()):
            raise ValueError(f"an optimizer's parameter {n}: expected the shape {list(shapes[n])}")
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
