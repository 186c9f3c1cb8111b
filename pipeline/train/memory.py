"""How long a recurrent network remembers: one network, trained on sequences of one length.

A plain loop over ``make_loader``, as anyone would write it.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pipeline.loader import Dataset, Split, make_loader
from pipeline.train.models.recurrent import SequenceClassifier

VOCABULARY = 10


@dataclass(frozen=True)
class Setup:
    """How a network is trained.

    Attributes:
        cell: of ``SequenceClassifier``, as ``hidden``.
        clip: largest norm of the gradient; None for any.
        weight_decay: as AdamW has it, apart from the gradient.
        cycle: whether the learning rate rises for a tenth of the steps to ``lr``, and then falls.
    """

    cell: str
    hidden: int
    lr: float
    batch_size: int
    epochs: int
    weight_decay: float = 0.0
    clip: float | None = None
    cycle: bool = False


@dataclass(frozen=True)
class Outcome:
    """What became of one network; accuracies in [0, 1], losses the mean of each epoch.

    Attributes:
        best: the epoch, from 1, that was best on validation; of equal ones the first.
        validation, test: its accuracies.
    """

    name: str
    length: int
    train_losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    best: int
    validation: float
    test: float


def remember(
    data: Dataset, target: str, name: str, setup: Setup, length: int, seed: int
) -> Outcome:
    """Train one network on one length; the one that is best on validation is tested."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        classes = len(data.sealed.classes[target])
        model = SequenceClassifier(VOCABULARY, classes, setup.cell, hidden=setup.hidden)
    train, validation = data["train"], data["validation"]
    losses, best, weights = [], (0.0, 0), model.state_dict()
    for number, loss in enumerate(_epochs(model, train, target, setup, seed), 1):
        held_out, accuracy = evaluated(model, validation, target)
        losses.append((loss, held_out))
        if number == 1 or accuracy > best[0]:
            best, weights = (accuracy, number), copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
    _, test = evaluated(model, data["test"], target)
    train_losses, validation_losses = zip(*losses, strict=True)
    return Outcome(name, length, train_losses, validation_losses, best[1], best[0], test)


def _epochs(
    model: nn.Module, train: Split, target: str, setup: Setup, seed: int
) -> Iterator[float]:
    """Train; yields the mean loss of each epoch after it."""
    loader = make_loader(train, setup.batch_size, shuffle=True, seed=seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=setup.lr, weight_decay=setup.weight_decay
    )  # without decay it is Adam
    steps = setup.epochs * len(loader)
    cycle = (
        torch.optim.lr_scheduler.OneCycleLR(optimizer, setup.lr, steps, pct_start=0.1)
        if setup.cycle
        else None
    )
    for _ in range(setup.epochs):
        model.train()
        total = 0.0
        for batch in loader:
            loss = cross_entropy(model(batch["features"], batch["lengths"]), batch[target])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if setup.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), setup.clip)
            optimizer.step()
            if cycle:
                cycle.step()
            total += loss.item() * len(batch[target])
        yield total / len(train)


@torch.inference_mode()
def evaluated(model: nn.Module, split: Split, target: str) -> tuple[float, float]:
    """The mean loss and the accuracy on a split."""
    model.eval()
    loss, correct = 0.0, 0
    for batch in make_loader(split, batch_size=256, rank=0, world_size=1):
        logits = model(batch["features"], batch["lengths"])
        loss += float(cross_entropy(logits, batch[target], reduction="sum"))
        correct += int((logits.argmax(1) == batch[target]).sum())
    return loss / len(split), correct / len(split)
