"""What a run looks like: curves.png, confusion.png, examples.png."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pipeline.figures import figure, plain, write_figure
from pipeline.loader import Split
from pipeline.train.checkpoint import Description
from pipeline.train.evaluation import Evaluation
from pipeline.train.folder import events
from pipeline.train.metrics import confusion
from pipeline.train.models import entry
from pipeline.train.recogniser import Recogniser
from pipeline.train.tasks import TASKS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EXAMPLES = 10
NAMED = 40  # classes whose names fit beside a matrix
RIGHT, WRONG = "tab:green", "tab:red"
LINE = 100  # characters of a transcript


def draw(
    folder: Path,
    description: Description,
    test: Evaluation | None,
    split: Split | None,
    recogniser: Recogniser,
) -> None:
    """Draw a run's pictures into its folder: curves; of test what there is to see."""
    write_figure(folder / "curves.png", _curves(folder))
    if not test or not split:
        return
    if TASKS[entry(description.model).task].label == "class":
        write_figure(folder / "confusion.png", _confusion(description, test))
    if len(description.shape) == 2:
        write_figure(folder / "examples.png", _examples(description, test, split, recogniser))


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
    """Rows are the true classes and how often they are, as shares of each; columns the answers."""
    names = description.names
    matrix = confusion(test.answers, test.truths, len(names))
    counts = [sum(row) for row in matrix]
    shares = [[n / max(count, 1) for n in row] for row, count in zip(matrix, counts, strict=True)]
    size = min(4 + 0.2 * len(names), 14)
    drawn = figure(size + 1, size)
    axes = drawn.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    drawn.colorbar(image, label="share of the true class", shrink=0.6)
    title = f"test accuracy {test.scores['accuracy']:.3f}"
    axes.set(xlabel="answer", ylabel="truth (examples)", title=title)
    if len(names) <= NAMED:
        shown = [plain(name) for name in names]
        axes.set_xticks(range(len(names)), shown, rotation=90)
        told = [f"{name} ({n})" for name, n in zip(shown, counts[: len(names)], strict=True)]
        axes.set_yticks(range(len(names)), told)
    return drawn


def _examples(
    description: Description, test: Evaluation, split: Split, recogniser: Recogniser
) -> "Figure":
    """The first ones of test, as images or as the model sees them, the answer below the truth."""
    is_text = TASKS[entry(description.model).task].label == "text"
    drawn = figure(12, 12) if is_text else figure(12, 5.6)
    shape = (EXAMPLES // 2, 1) if is_text else (2, EXAMPLES // 2)
    places = drawn.subplots(*shape, squeeze=False).flatten()
    for i, axes in enumerate(places[: len(split)]):
        _image(axes, description, split, i, recogniser)
        pair = [test.truths[i], test.answers[i]]
        truth, answer = pair if is_text else [description.names[n] for n in pair]
        color = RIGHT if truth == answer else WRONG
        lines = f"truth: {truth:.{LINE}}\nanswer: {answer:.{LINE}}"
        axes.set_title(plain(lines), fontsize=9, color=color, loc="left")
    for axes in places:
        axes.set_axis_off()
    return drawn


@torch.inference_mode()
def _image(
    axes: "Axes", description: Description, split: Split, i: int, recogniser: Recogniser
) -> None:
    """An image as it is; of sound, normalised features with time to the right and bin 0 below."""
    batch = split.batch([i])
    if description.audio is None:
        axes.imshow(batch["features"][0].numpy(), cmap="gray")
        return
    device = recogniser.mean.device
    seen, _ = recogniser.prepared(batch["features"].to(device), batch["lengths"].to(device))
    axes.imshow(
        seen[0].cpu().numpy().T, aspect="auto", origin="lower", cmap="magma", vmin=-2.5, vmax=2.5
    )
