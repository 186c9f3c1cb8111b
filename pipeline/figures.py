"""Figures of matplotlib that need no window and no state of its."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.files import written

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure(width: float, height: float) -> "Figure":
    """An empty figure of that size in inches."""
    from matplotlib.figure import Figure

    return Figure((width, height), layout="constrained")


def plain(name: str) -> str:
    """Somebody's words, so that matplotlib takes them for no formula and shows them as they are."""
    return name.replace("$", r"\$")


def write_figure(path: Path, drawn: "Figure") -> None:
    """Write a figure as a PNG, whole or not at all; the same figure gives the same bytes."""
    with written(path) as temporary, warnings.catch_warnings():
        # The font lacks some scripts: their names become boxes.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        drawn.savefig(temporary, format="png", dpi=120, metadata={"Software": None})
