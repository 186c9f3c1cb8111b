"""The training loop: a classifier, Adam, cross-entropy, accuracy."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.nn.functional import cross_entropy, pad
from tqdm import tqdm

from pipeline.errors import UsageError, unknown_name
from pipeline.loader import Dataset, Split, make_loader, open_dataset
from pipeline.train.models import MODELS

SMALLEST = 8  # frames and bins: three 2×2 maxima leave one of each


@dataclass(frozen=True)
class Settings:
    """Every hyper-parameter of a run; ``target=None`` takes the dataset's hint."""

    model: str = "conv2d"
    target: str | None = None
    epochs: int = 10
    batch_size: int = 32
    lr: float = 0.001
    seed: int = 0

    def __post_init__(self) -> None:
        bounds = (
            ("epochs", self.epochs >= 1, "at least 1"),
            ("lr", 0 < self.lr < math.inf, "a positive learning rate"),
            ("seed", 0 <= self.seed < 1 << 63, "0 to 2^63 - 1"),
        )
        for name, holds, expected in bounds:
            if not holds:
                raise UsageError(f"{name}={getattr(self, name)}: expected {expected}")


@dataclass(frozen=True)
class Epoch:
    """One epoch's mean loss and accuracies in [0, 1]; ``validation`` is None without that split."""

    number: int
    loss: float
    train: float
    validation: float | None


@dataclass(frozen=True)
class Trained:
    """The end of a run: accuracy on test in [0, 1], and what guessing the commonest class gives."""

    test: float | None
    chance: float | None
    parameters: int


def train(
    where: str | Path, settings: Settings, progress: bool = False, cache: Path | None = None
) -> Iterator[Epoch | Trained]:
    """Train on a dataset; yields an ``Epoch`` after each, at the end one ``Trained``.

    Features are normalised by the mean and variance of train. Runs on the CPU and is repeatable:
    the same settings on the same dataset give the same numbers.

    Raises:
        UsageError: settings that don't fit the dataset.
        DatasetError: not a sealed dataset.
        RemoteError: the store of a dataset at a URL can't be read.
    """
    data = open_dataset(where, normalize=True, cache=cache)
    target = _target(data, settings)
    model = _model(data, target, settings)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr)
    loader = make_loader(data["train"], settings.batch_size, shuffle=True, seed=settings.seed)
    for number in range(1, settings.epochs + 1):
        model.train()
        loss_sum, correct, seen = 0.0, 0, 0
        for batch in tqdm(
            loader, f"epoch {number}", leave=False, disable=None if progress else True
        ):
            logits = model(_long_enough(batch["features"]))
            loss = cross_entropy(logits, batch[target])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss_sum += loss.item() * len(logits)
            correct += int((logits.argmax(1) == batch[target]).sum())
            seen += len(logits)
        validation = data.get("validation")
        held_out = accuracy(model, validation, target) if validation else None
        yield Epoch(number, loss_sum / seen, correct / seen, held_out)
    test = data.get("test")
    parameters = sum(p.numel() for p in model.parameters())
    if not test:
        yield Trained(None, None, parameters)
    else:
        yield Trained(accuracy(model, test, target), _commonest(test, target), parameters)


@torch.inference_mode()
def accuracy(model: nn.Module, split: Split, target: str) -> float:
    """The share of a split's examples that the model classifies rightly."""
    model.eval()
    correct = 0
    for batch in make_loader(split, batch_size=256):
        correct += int((model(_long_enough(batch["features"])).argmax(1) == batch[target]).sum())
    return correct / len(split)


def _long_enough(features: torch.Tensor) -> torch.Tensor:
    """(B, T, F) with zeros added where T is below what the model's maxima leave anything of."""
    missing = max(0, SMALLEST - features.shape[1])
    return pad(features, (0, 0, 0, missing)) if missing else features


def _commonest(split: Split, target: str) -> float:
    labels = torch.cat([batch[target] for batch in make_loader(split, batch_size=256)])
    return int(labels.bincount().max()) / len(labels)


def _target(data: Dataset, settings: Settings) -> str:
    target = settings.target or data.info["hints"].get("target", "")
    classes = data.sealed.classes
    if target not in classes:
        if settings.target is None and classes:
            raise UsageError(
                f"this dataset hints at no class label: choose --target {next(iter(classes))}"
            )
        raise unknown_name("class label", target, classes)
    return str(target)


def _model(data: Dataset, target: str, settings: Settings) -> nn.Module:
    if settings.model not in MODELS:
        raise unknown_name("model", settings.model, MODELS)
    shape = data.sealed.columns.shape
    if len(shape) != 2 or (shape[1] or 0) < SMALLEST or (shape[0] or SMALLEST) < SMALLEST:
        found = "×".join("any" if n is None else str(n) for n in shape)
        raise UsageError(
            f"{settings.model} needs features of (frames, bins), {SMALLEST}×{SMALLEST} or more; "
            f"{data.sealed.feature.kind} of this dataset are {found}"
        )
    if not data.get("train"):
        raise UsageError("this dataset has no train split")
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        return MODELS[settings.model](int(shape[1] or 0), len(data.sealed.classes[target]))
