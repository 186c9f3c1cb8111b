"""Histograms as numbers that the page draws."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.report.measures import Floats, Measure
from pipeline.report.survey import Numbers

BINS = 44
ALL = -1  # in place of a split


@dataclass(frozen=True)
class Bar:
    """A bar's edges in the measure's unit and its pieces, one per split: (split, bottom, height).

    Heights are shares of the highest bar. The split is ``ALL`` where they are not told apart.
    """

    low: float
    high: float
    count: int
    pieces: Sequence[tuple[int, float, float]]


@dataclass(frozen=True)
class Histogram:
    """How a measure is spread over the clips.

    Attributes:
        bars: none where all values are the same.
        ticks: (place from 0 to 1, text) along the axis.
        most: the count of the highest bar.
        logarithmic: whether heights are logarithms of counts; pieces are then not split up.
        summary: smallest, median and largest value, for people.
    """

    measure: Measure
    bars: Sequence[Bar]
    ticks: Sequence[tuple[float, str]]
    most: int
    logarithmic: bool
    summary: str


def histogram(
    measure: Measure, values: Floats, splits: Numbers, n_splits: int, logarithmic: bool
) -> Histogram | None:
    """A histogram in at most ``BINS`` bars; None where there are no values."""
    if not len(values):
        return None
    held = values.astype(np.float64)
    low, middle, high = np.percentile(held, [0, 50, 100]).tolist()
    told = [number(v, measure.digits) for v in (low, middle, high)]
    if alike(low, high):
        return Histogram(
            measure, (), (), len(values), False, f"all {told[0]} {measure.unit}".strip()
        )
    edges = np.linspace(low, high, BINS + 1)
    place = np.minimum(((held - low) / (high - low) * BINS).astype(int), BINS - 1)
    counts = np.zeros((BINS, n_splits), np.int64)
    np.add.at(counts, (place, splits), 1)
    totals = counts.sum(axis=1)
    most = int(totals.max())
    bars = [
        Bar(float(edges[i]), float(edges[i + 1]), int(totals[i]), _pieces(counts[i], most))
        if not logarithmic
        else _whole(float(edges[i]), float(edges[i + 1]), int(totals[i]), most)
        for i in range(BINS)
        if totals[i]
    ]
    summary = f"{told[0]} to {told[2]} {measure.unit}".strip() + f", median {told[1]}"
    return Histogram(measure, bars, ticks(low, high), most, logarithmic, summary)


def alike(low: float, high: float) -> bool:
    """Whether values differ by no more than rounding: too little for bars of their own."""
    return high - low < 1e-6 * max(abs(low), abs(high), 1e-6)


def _pieces(counts: Numbers, most: int) -> list[tuple[int, float, float]]:
    tops = np.cumsum(counts)
    return [
        (split, float(top - count) / most, float(count) / most)
        for split, (top, count) in enumerate(zip(tops.tolist(), counts.tolist(), strict=True))
        if count
    ]


def _whole(low: float, high: float, count: int, most: int) -> Bar:
    return Bar(low, high, count, [(ALL, 0.0, math.log1p(count) / math.log1p(most))])


def number(value: float, digits: int) -> str:
    """A number for people, with a true minus; no minus before a zero."""
    text = f"{value:,.{digits}f}"
    return text.replace("-", "−") if text.strip("-0.,") else text.lstrip("-")


def ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Some round numbers from ``low`` to ``high``, and where they lie between them."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    found = [n * step for n in range(first, last + 1)]
    return [((value - low) / (high - low), number(value, digits)) for value in found]
