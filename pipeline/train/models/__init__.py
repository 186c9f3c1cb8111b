"""The models: each a function from sizes to a module, and one line in ``MODELS``."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from pipeline.errors import UsageError, unknown_name
from pipeline.train.models.bcresnet import BcResNet
from pipeline.train.models.conv1d import Conv1d
from pipeline.train.models.conv2d import Conv2d
from pipeline.train.models.crnn import Crnn
from pipeline.train.models.crnn_ctc import CrnnCtc
from pipeline.train.models.dnn import DnnCtc
from pipeline.train.models.lstm import Lstm
from pipeline.train.models.recurrent import SequenceClassifier
from pipeline.train.models.text_crnn import TextCrnn


@dataclass(frozen=True)
class Entry:
    """A model by its name.

    Attributes:
        make: ``make(bins, outputs)`` and own options → a module that maps features (B, T, F) and
            lengths (B,) to what its task's loss takes. For tokens, ``bins`` is how many there are.
        task: a name in ``TASKS``: what it is trained for.
        takes: ``frames``: (T, F) float32; ``tokens``: (T,) int64.
        bins: the least F.
        features: computed while training, where the dataset holds waveforms.
        settings: what it is trained with unless something else is asked for.
        augment: the same, as far as the dataset allows it.
    """

    make: Callable[..., nn.Module]
    task: str = "classify"
    takes: str = "frames"
    bins: int = 1
    features: str = "log_mel:n_mels=40,floor=1e-5,top=none"  # each frame on its own: can stream
    settings: Mapping[str, Any] = field(default_factory=dict)
    augment: tuple[str, ...] = ()

    @property
    def options(self) -> dict[str, Any]:
        """The options that ``make`` takes beside the sizes, with their defaults."""
        own = list(inspect.signature(self.make).parameters.values())[2:]
        return {parameter.name: parameter.default for parameter in own}


MODELS: dict[str, Entry] = {
    "conv2d": Entry(Conv2d, bins=8),
    "conv1d": Entry(Conv1d, settings={"epochs": 30, "schedule": "cosine"}),
    "crnn": Entry(Crnn, bins=4, settings={"epochs": 30, "schedule": "cosine"}),
    "lstm": Entry(
        Lstm,
        settings={"epochs": 1, "batch_size": 64, "lr": 0.01, "clip": 1.0, "schedule": "cosine"},
    ),
    "bcresnet": Entry(
        BcResNet,
        bins=8,
        settings={
            "epochs": 40,
            "batch_size": 32,
            "optimizer": "adamw",
            "lr": 0.006,
            "weight_decay": 0.01,
            "schedule": "cosine",
            "warmup": 0.05,
        },
        augment=("shift", "noise", "mask"),
    ),
    "dnn_ctc": Entry(
        DnnCtc,
        task="transcribe",
        settings={
            "epochs": 60,
            "batch_size": 8,
            "optimizer": "adamw",
            "weight_decay": 0.01,
            "schedule": "cosine",
            "warmup": 0.05,
            "clip": 1.0,
        },
    ),
    "crnn_ctc": Entry(
        CrnnCtc,
        task="transcribe",
        settings={
            "epochs": 60,
            "batch_size": 16,
            "optimizer": "adamw",
            "lr": 0.002,
            "weight_decay": 0.01,
            "schedule": "cosine",
            "warmup": 0.05,
            "clip": 1.0,
        },
    ),
    "recurrent": Entry(
        SequenceClassifier, takes="tokens", settings={"epochs": 500, "batch_size": 8}
    ),
    "text_crnn": Entry(
        TextCrnn,
        takes="tokens",
        settings={
            "epochs": 100,
            "batch_size": 20,
            "optimizer": "adamw",
            "lr": 0.003,
            "weight_decay": 0.1,
            "schedule": "cosine",
            "warmup": 0.05,
            "clip": 1.0,
        },
    ),
}


def entry(name: str) -> Entry:
    """The model of that name.

    Raises:
        UnknownNameError: there is none.
    """
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    return MODELS[name]


def make(name: str, bins: int, outputs: int, options: Mapping[str, Any]) -> nn.Module:
    """A new model, its weights drawn from torch's generator.

    Raises:
        UnknownNameError: no such model or option.
        UsageError: an option's value of another type than its default, or one that makes no model.
    """
    chosen = entry(name)
    for key, value in options.items():
        if key not in chosen.options:
            raise unknown_name(f"option of {name}", key, chosen.options)
        kind = type(chosen.options[key])
        if type(value) is not kind:
            raise UsageError(f"option {key}={value}: expected {kind.__name__}")
    return chosen.make(bins, outputs, **options)
