"""What a run looks like: curves.png, confusion.png, examples.png."""

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.figures import figure, write_figure
from pipeline.loader import Split
from pipeline.train.checkpoint import Description
from pipeline.train.evaluation import Evaluation
from pipeline.train.folder import events
from pipeline.train.metrics import confusion
from pipeline.train.models import entry
from pipeline.train.tasks import TASKS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES = 10
NAMED = 40  # classes whose names fit beside a matrix


def draw(
    folder: Path, description: Description, test: Evaluation | None, split: Split | None
) -> None:
    """Draw a run's pictures into its folder; those of classes where it tells classes."""
    write_figure(folder / "curves.png", _curves(folder))
    if test and split and TASKS[entry(description.model).task].label == "class":
        write_figure(folder / "confusion.png", _confusion(description, test))
        if len(description.shape) == 2 and not description.hears:
            write_figure(folder / "examples.png", _examples(description, test, split))


def _curves(folder: Path) -> "Figure":
    """Losses on the left, the score that chooses the best on the right; steps below."""
    found = [event for event in events(folder) if event["what"] == "evaluation"]
    steps, watch = [event["step"] for event in found], found[-1]["watch"] if found else ""
    drawn = figure(10, 4)
    left, right = drawn.subplots(1, 2)
    for name, line in (("train_loss", "train"), ("held_out_loss", "held out")):
        if found and found[0][name] is not None:
            left.plot(steps, [event[name] for event in found], label=line)
    for name, line in (("train", "train"), ("held_out", "held out")):
        if found and found[0][name] is not None:
            right.plot(steps, [event[name][watch] for event in found], label=line)
    for axes, title in ((left, "loss"), (right, watch)):
        axes.set(title=title, xlabel="step")
        axes.legend()
        axes.grid(alpha=0.3)
    return drawn


def _confusion(description: Description, test: Evaluation) -> "Figure":
    """Rows are the true classes, as shares of each; columns the answers."""
    names = description.names
    matrix = confusion(test.answers, test.truths, len(names))
    shares = [[n / max(sum(row), 1) for n in row] for row in matrix]
    size = min(4 + 0.2 * len(names), 14)
    drawn = figure(size, size)
    axes = drawn.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="answer", ylabel="truth", title=f"test {test.scores['accuracy']:.3f}")
    if len(names) <= NAMED:
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
    return drawn


def _examples(description: Description, test: Evaluation, split: Split) -> "Figure":
    """The first ten of test as they are stored, the answer beside the truth."""
    drawn = figure(12, 5)
    places = drawn.subplots(2, EXAMPLES // 2).flatten()
    for i, axes in enumerate(places[: len(split)]):
        features = split[i]["features"].numpy()
        image = features if description.audio is None else features.T[::-1]
        axes.imshow(image, aspect="auto", cmap="gray" if description.audio is None else "magma")
        answer, truth = (description.names[n] for n in (test.answers[i], test.truths[i]))
        axes.set_title(f"{answer} ({'right' if answer == truth else truth})", fontsize=9)
    for axes in places:
        axes.set_axis_off()
    return drawn
