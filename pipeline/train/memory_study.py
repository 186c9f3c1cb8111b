"""The published exercise on the memory of a recurrent network, and better settings: all curves.

There is one dataset for each length of sequence. ``PUBLISHED`` is the exercise as it is published,
``OWN`` what remembers longer sequences.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.errors import UsageError
from pipeline.figures import figure, write_figure
from pipeline.files import write_json
from pipeline.loader import Dataset, open_dataset
from pipeline.train.memory import Outcome, Setup, remember

PUBLISHED = {"srn": Setup("srn", hidden=32, lr=0.001, batch_size=8, epochs=500)}
OWN = {
    "rnn": Setup("rnn", 128, 0.001, 20, 150, weight_decay=0.1, clip=0.5, cycle=True),
    "lstm": Setup("lstm", 64, 0.005, 20, 150, weight_decay=0.1, clip=1.0, cycle=True),
    "gru": Setup("gru", 64, 0.005, 20, 150, weight_decay=0.3, clip=1.0, cycle=True),
}


def study(
    folders: Mapping[int, Path], out: Path, setups: Mapping[str, Setup], seed: int = 0
) -> Iterator[Outcome]:
    """Train each setup for each length; yields each outcome, then writes them all to ``out``.

    ``outcomes.json`` holds the outcomes and the setups, ``losses.png`` and ``accuracy.png`` show
    them.

    Args:
        folders: length → the sealed dataset of sequences of that length.
        out: a folder, made if it is missing.
        setups: by the names that the pictures have.
        seed: of weights and order.

    Raises:
        UsageError: no datasets, or one that has no tokens or not all of the splits.
    """
    if not folders:
        raise UsageError("a study of memory: expected at least one dataset, each of one length")
    data = {length: open_dataset(folder) for length, folder in sorted(folders.items())}
    targets = {length: _target(opened) for length, opened in data.items()}
    outcomes = []
    for name, setup in setups.items():
        for length, opened in data.items():
            outcomes.append(remember(opened, targets[length], name, setup, length, seed))
            yield outcomes[-1]
    values: dict[str, Any] = {
        "seed": seed,
        "setups": {name: asdict(setup) for name, setup in setups.items()},
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    write_json(out / "outcomes.json", values)
    plot_losses(out / "losses.png", outcomes)
    plot_accuracies(out / "accuracy.png", outcomes)


def _target(data: Dataset) -> str:
    """The class label that the dataset hints at."""
    target = str(data.info["hints"].get("target", ""))
    splits = all(data.get(split) for split in ("train", "validation", "test"))
    if data.sealed.feature.kind != "tokens" or target not in data.sealed.classes or not splits:
        raise UsageError(
            f"{data.sealed.folder}: expected tokens with a class to name, in train, validation and "
            f"test; got {data.sealed.feature.kind} in {', '.join(data)}"
        )
    return target


def plot_losses(path: Path, outcomes: Sequence[Outcome]) -> None:
    """One panel for each model and length: the loss on train and on validation over epochs."""
    names = list(dict.fromkeys(outcome.name for outcome in outcomes))
    lengths = sorted({outcome.length for outcome in outcomes})
    drawn = figure(2.6 * len(lengths) + 1, 2.2 * len(names) + 0.6)
    panels = drawn.subplots(len(names), len(lengths), squeeze=False, sharey=True)
    for outcome in outcomes:
        panel = panels[names.index(outcome.name), lengths.index(outcome.length)]
        epochs = range(1, len(outcome.train_losses) + 1)
        panel.plot(epochs, outcome.train_losses, label="train")
        panel.plot(epochs, outcome.validation_losses, label="validation")
        panel.axvline(outcome.best, color="grey", linewidth=0.8, linestyle=":")
        panel.set_title(f"{outcome.name}, length {outcome.length}", fontsize=9)
        panel.set_ylim(0, 4)
    panels[0, 0].legend(fontsize=8)
    drawn.supxlabel("epoch")
    drawn.supylabel("cross-entropy")
    write_figure(path, drawn)


def plot_accuracies(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Every model's accuracy on validation (dashed) and test over the length of the sequences."""
    drawn = figure(7, 5)
    panel = drawn.subplots()
    for i, name in enumerate(dict.fromkeys(outcome.name for outcome in outcomes)):
        own = sorted((o for o in outcomes if o.name == name), key=lambda o: o.length)
        lengths, color = [o.length for o in own], f"C{i}"
        panel.plot(lengths, [o.test for o in own], "o-", color=color, label=f"{name}, test")
        panel.plot(
            lengths, [o.validation for o in own], "s--", color=color, label=f"{name}, validation"
        )
    panel.set_ylim(0, 1.02)
    panel.set_xlabel("length of the sequences")
    panel.set_ylabel("accuracy")
    panel.grid(alpha=0.3)
    drawn.legend(loc="outside lower center", fontsize=8, ncols=4)  # curves may be anywhere
    write_figure(path, drawn)
