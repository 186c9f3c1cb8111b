"""``Settings``: every hyper-parameter of a run, checked and recorded."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from pipeline.errors import UsageError, unknown_name
from pipeline.train.augmenting import AUGMENTATIONS
from pipeline.train.device import DEVICES
from pipeline.train.models import entry

CHOICES = {
    "optimizer": ("adam", "adamw", "sgd"),
    "schedule": ("constant", "cosine"),
    "device": DEVICES,
    "precision": ("float32", "bfloat16"),
}


@dataclass(frozen=True)
class Settings:
    """Every hyper-parameter of a run; ``settings_for`` fills in what a model is best trained with.

    Each has a flag of the command line under its own name.

    Attributes:
        model: a name in ``MODELS``.
        options: the model's own, by name.
        target: the label that is learnt; None takes the dataset's hint.
        features: computed while training, where the dataset holds waveforms; None for the model's.
        batch_size: examples of a step, over all processes together.
        window: examples that are sorted by length together, for clips of any length.
        optimizer: ``adam``, ``adamw`` or ``sgd`` (with momentum 0.9).
        lr: learning rate; its peak, with a schedule.
        schedule: ``constant``, or ``cosine``: down to 0 at the end.
        warmup: share of the run in which the learning rate rises from 0.
        clip: largest norm of the gradient; 0 for any.
        smoothing: share of a class label that goes to all of them evenly.
        augment: names in ``AUGMENTATIONS``; None for as many of the model's as the data allows.
        patience: so many evaluations without a better one end the run.
        eval_every: steps between evaluations; None for an epoch.
        eval_split: the split that chooses the best model.
        eval_examples: evaluate on so many of its examples, the first as stored; None for all.
        save_every: steps between saves, beside those at evaluations.
        seed: of weights, order, dropout and augmentation.
        device: ``cpu``, ``cuda``, or ``auto``: CUDA where there is one.
        precision: ``float32``, or ``bfloat16`` where autocast takes it.
        workers: processes that gather batches.
    """

    model: str = "conv2d"
    options: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None
    features: str | None = None
    epochs: int = 10
    batch_size: int = 32
    window: int | None = None
    optimizer: str = "adam"
    lr: float = 0.001
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup: float = 0.0
    clip: float = 0.0
    smoothing: float = 0.0
    augment: tuple[str, ...] | None = None
    patience: int | None = None
    eval_every: int | None = None
    eval_split: str = "validation"
    eval_examples: int | None = None
    save_every: int | None = None
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    workers: int = 0

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise unknown_name(name, str(getattr(self, name)), known)
        for name in self.augment or ():
            if name not in AUGMENTATIONS:
                raise unknown_name("augmentation", name, AUGMENTATIONS)
        bounds = (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("batch_size", self.batch_size >= 1, "at least 1"),
            ("lr", 0 < self.lr < math.inf, "a positive learning rate"),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "0 or more"),
            ("warmup", 0 <= self.warmup <= 1, "a share of the run, 0 to 1"),
            ("clip", 0 <= self.clip < math.inf, "a norm, or 0 for any"),
            ("smoothing", 0 <= self.smoothing < 1, "0 to below 1"),
            ("seed", 0 <= self.seed < 1 << 32, "0 to 2^32 - 1"),
            ("workers", self.workers >= 0, "0 or more"),
        )
        counts = ("window", "patience", "eval_every", "eval_examples", "save_every")
        bounds += tuple(
            (n, getattr(self, n) is None or getattr(self, n) >= 1, "at least 1") for n in counts
        )
        for name, holds, expected in bounds:
            if not holds:
                raise UsageError(f"{name}={getattr(self, name)}: expected {expected}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they are recorded."""
        augment = None if self.augment is None else list(self.augment)
        return asdict(self) | {"augment": augment, "options": dict(self.options)}


def settings_for(given: Mapping[str, Any], hints: Mapping[str, Any]) -> Settings:
    """Settings as asked for, else as the model is best trained; the model, as the dataset hints.

    Raises:
        UsageError, UnknownNameError: a name or a value that makes no sense.
    """
    known = {f.name for f in fields(Settings)}
    for name in given:
        if name not in known:
            raise unknown_name("setting", name, known)
    model = str(given.get("model") or hints.get("model") or Settings.model)
    return Settings(**{**entry(model).settings, **given, "model": model})


def parse_options(model: str, text: str) -> dict[str, Any]:
    """Read ``hidden=96,bidirectional=false`` by the types of the model's own defaults.

    Raises:
        UsageError, UnknownNameError: no such option, or a value of another type.
    """
    found: dict[str, Any] = {}
    defaults = entry(model).options
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in defaults:
            raise unknown_name(f"option of {model}", name, defaults)
        kind = type(defaults[name])
        try:
            found[name] = {"true": True, "false": False}[value] if kind is bool else kind(value)
        except (ValueError, KeyError):
            raise UsageError(
                f"option {name}={value}: expected {kind.__name__}, like {defaults[name]}"
            ) from None
    return found
