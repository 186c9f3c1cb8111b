"""The page's charts as PNG files, for slides and papers."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pipeline.dataset import target_of
from pipeline.figures import figure, plain, write_figure
from pipeline.report.charts import BINS, alike
from pipeline.report.measures import LENGTH, MEASURES, Measure, length_of
from pipeline.report.survey import NOISE, Survey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"train": "#4c6a92", "validation": "#d09a45", "test": "#3c8d7a"}
GREY = "#9aa0a6"  # of noise
NAMED = 60  # classes whose names fit below their bars
BARS = 500  # classes that are drawn: those with most examples
LETTERS = 20  # of such a name
ACROSS = 3  # panels beside each other


def plot(folder: Path, found: Survey) -> list[Path]:
    """Write ``lengths.png``, ``measures.png`` and ``labels.png``, those that make sense."""
    written = []
    lengths, own = length_of(found.sealed.feature)[0], [n for n in found.measures if n != LENGTH]
    if len(found):
        written.append(_histograms(folder / "lengths.png", found, {LENGTH: lengths}))
    if len(found) and own:
        known = {name: MEASURES[name] for name in own}
        written.append(_histograms(folder / "measures.png", found, known))
    target = target_of(found.sealed)
    if target is not None:
        written.append(_labels(folder / "labels.png", found, target))
    return written


def _histograms(path: Path, found: Survey, measures: dict[str, Measure]) -> Path:
    across = min(len(measures), ACROSS)
    down = -(-len(measures) // across)
    drawn = figure(4.2 * across + 1.2, 3.2 * down)
    panels = drawn.subplots(down, across, squeeze=False).flatten()
    for axes in panels[len(measures) :]:
        axes.set_axis_off()
    for axes, (name, measure) in zip(panels, measures.items(), strict=False):
        values = found.measures[name].astype(np.float64)
        parts = [values[found.splits == i] for i in range(len(found.names))]
        colours = [COLOURS.get(split, GREY) for split in found.names]
        axes.hist(parts, _edges(values), stacked=True, color=colours, label=found.names)
        unit = f" ({measure.unit})" if measure.unit else ""
        axes.set(xlabel=f"{measure.title}{unit}", ylabel="examples")
        axes.set_yscale("symlog")
        axes.spines[["top", "right"]].set_visible(False)
    drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    return _written(path, drawn)


def _edges(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The bars' edges; all but equal values get some room, or no edges fit between them."""
    low, high = float(values.min()), float(values.max())
    if alike(low, high):
        room = max(abs(low) / 100, 0.5)
        low, high = low - room, high + room
    return np.linspace(low, high, BINS + 1)


def _labels(path: Path, found: Survey, target: str) -> Path:
    names, table = np.array(found.sealed.classes[target], object), found.counts(target)
    shown = np.sort(np.argsort(-table.sum(axis=1), kind="stable")[:BARS])
    title = _brief(target) + f", {BARS} of {len(names):,} classes" * (len(names) > BARS)
    names, table = names[shown], table[shown]
    drawn = figure(min(3 + 0.28 * len(names), 18), 4)
    axes = drawn.subplots()
    places, below = np.arange(len(names)), np.zeros(len(names))
    for split, counts in zip(found.names, table.T, strict=True):
        if split != NOISE:
            axes.bar(places, counts, bottom=below, color=COLOURS.get(split, GREY), label=split)
            below += counts
    if len(names) <= NAMED:
        axes.set_xticks(places, map(_brief, names), rotation=90)
    axes.set(title=title, ylabel="examples")
    axes.spines[["top", "right"]].set_visible(False)
    drawn.legend(loc="outside right upper", frameon=False)
    return _written(path, drawn)


def _brief(name: str) -> str:
    """A name that fits, in one line."""
    shown = name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"
    return plain(shown).replace("\n", " ")


def _written(path: Path, drawn: "Figure") -> Path:
    write_figure(path, drawn)
    return path
