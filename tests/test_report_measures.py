"""What a report measures and draws: equal to a plain loop, every clip in one bar."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dataset import open_sealed
from pipeline.features import Mfcc, Waveform
from pipeline.figures import figure, write_figure
from pipeline.report.charts import histogram, ticks
from pipeline.report.measures import MEASURES, folded, measured
from pipeline.report.plots import BARS, plot
from pipeline.report.survey import survey
from pipeline.rows import Rows
from tests.reported import RATE, voice, words

lengths_of_clips = st.lists(st.integers(0, 700), min_size=1, max_size=6)


@given(lengths_of_clips, st.integers(0, 99))
def test_measures_of_samples_are_those_of_a_loop(lengths: list[int], seed: int) -> None:
    rng, feature = np.random.default_rng(seed), Waveform(RATE, "int16")
    clips = [rng.integers(-32768, 32768, n).astype(np.int16) for n in lengths]
    clips[0] //= 20000  # a quiet one
    rows = Rows(None, {}, np.array(lengths), np.concatenate(clips))
    found, profiles = measured(rows, feature)
    assert profiles.shape == (len(clips), 32)
    for i, clip in enumerate(clips):
        x = clip / 32768
        windows = [x[j : j + 160] for j in range(0, len(x), 160)]
        quiet = [10 * np.log10(max(np.mean(w**2), 1e-10)) < -60 for w in windows]
        size = max(len(x), 1)
        wanted = {
            "level": 10 * np.log10(max(np.sum(x**2) / size, 1e-10)),
            "peak": 20 * np.log10(max(np.abs(x).max(initial=0), 1e-5)),
            "offset": 100 * abs(x.sum() / size),
            "clipped": 100 * np.sum(np.abs(x) >= 0.999) / size,
            "quiet": 100 * np.mean(quiet) if quiet else 0,
        }
        for name, value in wanted.items():
            assert found[name][i] == pytest.approx(value, abs=2e-3), name


@given(lengths_of_clips, st.integers(1, 200), st.integers(0, 99))
def test_measures_of_spectra_are_those_of_a_loop(lengths: list[int], bins: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    clips = [rng.integers(0, 2, (n, bins)).astype(np.float16) for n in lengths]
    rows = Rows(None, {}, np.array(lengths), np.concatenate(clips))
    found, profiles = measured(rows, Mfcc.at(RATE))
    assert profiles.shape == (len(clips), min(bins, 64))
    for i, clip in enumerate(clips):
        values = clip.astype(np.float64)
        same = [(a == b).all() for a, b in pairwise(values)]
        assert found["still"][i] == pytest.approx(100 * np.mean(same) if same else 0, abs=1e-3)
        assert found["energy"][i] == pytest.approx(
            values[:, 0].mean() if len(clip) else 0, abs=1e-3
        )


def test_folding_keeps_the_mean() -> None:
    values = np.arange(2 * 128, dtype=np.float32).reshape(2, 128)
    assert folded(values).mean(axis=1) == pytest.approx(values.mean(axis=1))


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50), st.booleans())
def test_every_clip_is_in_one_bar(values: list[float], logarithmic: bool) -> None:
    held = np.array(values, np.float32)
    made = histogram(MEASURES["level"], held, np.zeros(len(held), np.int64), 1, logarithmic)
    assert made
    assert sum(bar.count for bar in made.bars) == (len(held) if made.bars else 0)
    assert all(0 < height <= 1.0001 for bar in made.bars for *_, height in bar.pieces)
    assert all(-1e-9 <= place <= 1 + 1e-9 for place, _ in made.ticks)


def test_ticks_are_round() -> None:
    assert [text for _, text in ticks(-0.2, 10.4)] == ["0", "2", "4", "6", "8", "10"]
    assert [text for _, text in ticks(-1, 0.05)] == ["−1.0", "−0.8", "−0.6", "−0.4", "−0.2", "0.0"]


def test_of_many_classes_the_largest_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(
        "pipeline.report.plots.write_figure", lambda p, f: drawn.update({p.name: f})
    )
    classes = [f"{i:03d}" for i in range(BARS + 9)]
    rows = [(f"{i}", {"word": i % 502}, voice(i, 20)) for i in range(1002)]
    folder = words(
        tmp_path, labels={"word": "class"}, classes={"word": classes}, splits={"train": rows}
    )
    plot(tmp_path, survey(open_sealed(folder), lambda done: None))
    (axes,) = drawn["labels.png"].axes
    assert axes.get_title() == "word, 500 of 509 classes"
    assert [bar.get_height() for bar in axes.patches] == [2] * BARS


@pytest.mark.parametrize(
    "values",
    [
        [0.5, 0.5],
        [0.0, 0.0],
        [-3.0, np.nextafter(np.float32(-3), np.float32(0))],  # `prepare --audio peak_db=-3`
        [1e9, np.nextafter(np.float32(1e9), np.float32(0))],
        [-3e38, 3e38],
    ],
    ids=["equal", "zeros", "all but equal", "large", "far apart"],
)
def test_every_clip_is_in_a_bar_of_the_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[float]
) -> None:
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(
        "pipeline.report.plots.write_figure", lambda p, f: drawn.update({p.name: f})
    )
    rows = [(f"{i}", {"word": 0, "speaker": "a"}, voice(i, 20)) for i in range(2)]
    found = survey(open_sealed(words(tmp_path, splits={"train": rows})), lambda done: None)
    held = np.array(values, np.float32)
    plot(tmp_path, replace(found, measures={"length": held, "peak": held}))
    for name in ("lengths.png", "measures.png"):
        bars = drawn[name].axes[0].patches
        assert sum(bar.get_height() for bar in bars) == 2
    made = histogram(MEASURES["peak"], held, found.splits, 1, False)
    assert made
    assert sum(bar.count for bar in made.bars) == (2 if values[1] > 1e38 else 0)


def test_a_script_that_the_font_lacks_is_no_warning(tmp_path: Path) -> None:
    drawn = figure(2, 2)
    drawn.suptitle("日本語")
    write_figure(tmp_path / "x.png", drawn)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
