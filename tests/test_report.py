"""The report: what it measures, what it finds, and a page on which nothing is executed."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli import main
from pipeline.dataset import open_sealed
from pipeline.errors import DatasetError
from pipeline.features import (
    Feature,
    LogMel,
    Mfcc,
    Pixels,
    Spectrogram,
    Tokens,
    Vector,
    Waveform,
    to_dict,
)
from pipeline.figures import figure, write_figure
from pipeline.prepare import Request, prepare_dataset
from pipeline.report import report
from pipeline.report.charts import histogram, ticks
from pipeline.report.measures import MEASURES, folded, measured
from pipeline.report.plots import BARS, plot
from pipeline.report.problems import Judged, problems
from pipeline.report.strange import deviations, strange
from pipeline.report.survey import survey
from pipeline.report.twins import speakers, twins
from pipeline.rows import Rows
from tests.conftest import real_data
from tests.sealed import Made, write_made

Ask = Callable[..., Request]
Array = npt.NDArray[Any]
RATE = 8000
HOSTILE = (
    "<script>document.hacked=1</script>",
    "</script><script>document.hacked=1</script>",
    '"><img src=x onerror="document.hacked=1">',
    "' onmouseover='document.hacked=1",
    "{{ 7 * 7 }} {% raw %} &lt;b&gt; &amp;",
    "<!--<script>",
    "\u202egnp.exe\u2028 $x_1$",
)


def judged(folder: Path) -> Judged:
    found = survey(open_sealed(folder), lambda done: None)
    groups = twins(found)
    return Judged(found, strange(found, groups), groups, speakers(found, 5))


def titles(folder: Path) -> list[str]:
    return [problem.title for problem in problems(judged(folder))[0]]


def voice(seed: int, n: int = RATE, level: float = 0.1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32) * np.float32(level)


def words(tmp_path: Path, name: str = "words", **changes: Any) -> Path:
    """Twelve clips of two words by four speakers in three splits; nothing is wrong with them."""
    rows = [
        (f"clip-{i}", {"word": i % 2, "speaker": f"s{i % 4 if i < 8 else i}"}, voice(i))
        for i in range(12)
    ]
    made = {
        "feature": Waveform(RATE, "float32"),
        "labels": {"word": "class", "speaker": "text"},
        "splits": {"train": rows[:8], "validation": rows[8:10], "test": rows[10:]},
        "classes": {"word": ["no", "yes"]},
        "hints": {"target": "word"},
    }
    return write_made(tmp_path / name, Made(**(made | changes)))


class Read(HTMLParser):
    """Elements with their attributes, scripts' texts, and all text that a person sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, Mapping[str, str | None]]] = []
        self.scripts: list[str] = []
        self.inside = ""
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        else:
            self.text += data


def hostile(tmp_path: Path) -> Path:
    rows = [
        (f"{text}/{i}.wav", {"word": i, "speaker": text, "text": text}, voice(i % 3))
        for i, text in enumerate(HOSTILE)
    ]
    finding = {"key": HOSTILE[0], "split": "train", "source": "x", "offset": 0, "size": 1}
    return words(
        tmp_path,
        labels={"word": "class", "speaker": "text", "text": "text"},
        splits={"train": rows, "test": rows[:2]},
        classes={"word": list(HOSTILE)},
        findings=[finding | {"reason": f"silent: {HOSTILE[1]}", "left_out": False}],
        corpus={"title": HOSTILE[0], "licence": HOSTILE[2], "homepage": "javascript:alert(1)"},
    )


def test_what_people_have_named_is_shown_and_never_executed(tmp_path: Path) -> None:
    page = report(hostile(tmp_path), tmp_path / "out", lambda done: None)
    html = page.read_text(encoding="utf-8")
    read = Read(html)
    assert len(read.scripts) == 2  # ours
    assert all(text in read.text for text in HOSTILE)
    found = json.loads(read.scripts[0])
    assert {row["label"] for row in found} == set(HOSTILE)
    for tag, attributes in read.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:")[:5] in ("data:", "#exam") or (
                tag == "a" and (attributes[name] or "").startswith("#")
            )


def test_only_our_own_script_and_style_may_run(tmp_path: Path) -> None:
    html = report(words(tmp_path), tmp_path / "out", lambda done: None).read_text(encoding="utf-8")
    read = Read(html)
    (policy,) = (a["content"] for tag, a in read.elements if tag == "meta" and "http-equiv" in a)
    assert policy
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    for text in (read.scripts[1], style):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
    assert not re.search(r"https?://(?!www\.w3)", html)


def test_sound_data_has_nothing_to_look_at(tmp_path: Path) -> None:
    assert titles(words(tmp_path)) == []


def silent(rows: list[Any]) -> None:
    rows[0] = (rows[0][0], rows[0][1], np.zeros(RATE, np.float32))


def clipped(rows: list[Any]) -> None:
    rows[0] = (rows[0][0], rows[0][1], np.clip(voice(0, level=1), -1, 1))


def off_centre(rows: list[Any]) -> None:
    rows[0] = (rows[0][0], rows[0][1], voice(0) + np.float32(0.05))


def long(rows: list[Any]) -> None:
    rows[0] = (rows[0][0], rows[0][1], voice(0, 9 * RATE))


def empty(rows: list[Any]) -> None:
    rows[0] = (rows[0][0], rows[0][1], voice(0, 0))


def twice(rows: list[Any]) -> None:
    rows[0] = ("copy", rows[2][1], rows[2][2])


def relabelled(rows: list[Any]) -> None:
    rows[0] = ("copy", rows[1][1], rows[0][2])
    rows[2] = ("another", rows[2][1], rows[0][2])


def in_test(rows: list[Any]) -> None:
    rows[50] = ("copy", rows[50][1], rows[0][2])


def heard_before(rows: list[Any]) -> None:
    rows[50][1]["speaker"] = "s1"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (silent, "1 clip with much silence"),
        (clipped, "1 clip clipped"),
        (off_centre, "1 clip off centre"),
        (long, "1 clip of unusual length"),
        (empty, "1 example of no length"),
        (twice, "Same audio under two names: 1 case"),
        (relabelled, "Same audio, different labels: 1 case"),
        (in_test, "Same audio in two splits: 1 case"),
        (heard_before, "1 speaker in more than one split"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_wrong_is_found(
    tmp_path: Path, spoil: Callable[[list[Any]], None], said: str
) -> None:
    """Sixty clips, one or two of them spoiled: it is told, and they come first."""
    rows = [
        (f"clip-{i}", {"word": i % 2, "speaker": f"s{i % 4 if i < 40 else i}"}, voice(i))
        for i in range(60)
    ]
    spoil(rows)
    folder = words(tmp_path, splits={"train": rows[:40], "test": rows[40:]})
    assert said in titles(folder)
    found = judged(folder)
    first = int(found.strange.order(found.found.keys)[0])
    if spoil not in (heard_before, empty):
        assert first in (0, 2, 50)
        assert found.strange.reasons[first]


def test_missing_and_uneven_classes_are_told(tmp_path: Path) -> None:
    rows = [(f"clip-{i}", {"word": int(i > 9)}, voice(i)) for i in range(11)]
    folder = words(
        tmp_path,
        labels={"word": "class"},
        splits={"train": rows, "test": rows[:1]},
        classes={"word": ["no", "yes", "never"]},
    )
    found, absent = problems(judged(folder))
    said = {problem.title: problem.text for problem in found}
    assert "“never”" in said["1 class of word missing from train"]
    assert "“yes”, “never”" in said["2 classes of word missing from test"]
    assert "Classes are uneven: 10 to 1" in said
    assert "speakers in two splits" not in absent  # nobody tells them
    assert "clipping" in absent


def test_texts_that_do_not_fit_are_told(tmp_path: Path) -> None:
    text = "some forty characters of spoken English "
    rows = [
        (f"{i}", {"text": text[: 20 + i % 9]}, voice(i, 4000 + 200 * (i % 9))) for i in range(60)
    ]
    rows[7] = ("lacks", {"text": "a"}, rows[7][2])
    rows[8] = ("empty", {"text": ""}, rows[8][2])
    folder = words(tmp_path, labels={"text": "text"}, splits={"train": rows}, classes={}, hints={})
    found = judged(folder)
    assert "1 clip too long or too short for the text" in titles(folder)
    assert any(why.startswith("slow: ") for why in found.strange.reasons[7])


def test_noise_is_counted_and_never_strange(tmp_path: Path) -> None:
    rows = [(f"clip-{i}", {"word": i % 2, "speaker": "a"}, voice(i)) for i in range(20)]
    noise = [
        (f"hum-{i}", {"word": -1, "speaker": ""}, np.ones(4 * RATE, np.float32)) for i in range(3)
    ]
    folder = words(tmp_path, splits={"train": rows, "noise": noise})
    assert titles(folder) == []
    found = judged(folder)
    assert found.speakers
    assert list(found.speakers.counts) == [1, 0]
    assert found.found.counts("word").tolist() == [[10, 0], [10, 0]]
    assert (found.strange.scores[20:] == 0).all()


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


def test_half_of_equal_values_hides_no_outlier() -> None:
    far = deviations(np.array([1.0] * 99 + [0.5], np.float32))
    assert far[-1] < -4
    assert (far[:-1] == 0).all()
    assert (deviations(np.ones(5, np.float32)) == 0).all()


KINDS: tuple[Feature, ...] = (
    Mfcc.at(RATE, n_mfcc=13),
    Mfcc.at(RATE, n_mfcc=13, deltas=1, normalize="mean"),
    LogMel.at(RATE, dtype="float16"),
    Spectrogram.at(RATE),
    Waveform(RATE, "int16"),
    Waveform(RATE, "float32"),
    Pixels(8, 12),
    Vector(8, 12),
    Tokens(100),
)


def of_kind(feature: Feature, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    if isinstance(feature, Pixels | Vector):
        image: Array = feature.apply(rng.integers(0, 256, (1, 8, 12)).astype(np.uint8))[0]
        return image
    if isinstance(feature, Tokens):
        return rng.integers(0, 100, seed % 4)
    sounds = (rng.integers(-9000, 9000, (1, 3000 + 500 * (seed % 3))) / 32768).astype(np.float32)
    applied: Array = feature.apply(sounds)[0]
    return applied


@pytest.mark.parametrize("feature", KINDS, ids=lambda f: f"{f.kind}-{f.dtype}-{f.bins}")
@pytest.mark.parametrize(
    "labels",
    [{}, {"word": "class", "speaker": "int"}, {"text": "text", "tokens": "characters"}],
    ids=["no labels", "classes", "texts"],
)
def test_every_kind_has_a_report_and_always_the_same(
    tmp_path: Path, feature: Feature, labels: dict[str, str]
) -> None:
    rows = [
        (
            f"clip-{i}",
            {"word": i % 2, "speaker": i, "text": "a b", "tokens": [2, 1, 3]},
            of_kind(feature, i),
        )
        for i in range(9)
    ]
    made = Made(
        feature,
        labels,
        {"train": rows[:6], "validation": [], "test": rows[6:]},
        {"word": ["no", "yes"]} if "word" in labels else {"tokens": list(" ab")} if labels else {},
        fixed=isinstance(feature, Pixels | Vector),
        shards=2,
        corpus={"title": "Random"},
    )
    folder = write_made(tmp_path / "made", made)
    pages = [report(folder, tmp_path / out, lambda done: None) for out in ("first", "second")]
    first, second = (sorted(page.parent.iterdir()) for page in pages)
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    html = pages[0].read_text(encoding="utf-8")
    read = Read(html)
    players = sum(tag == "audio" for tag, _ in read.elements)
    assert players == (9 if isinstance(feature, Waveform) else 0)
    assert ("Not to be told" in html) == isinstance(feature, Mfcc | LogMel | Spectrogram)
    assert all(escape(str(to_dict(feature)[name])) in html for name in to_dict(feature))
    assert str(tmp_path) not in html


def test_a_dataset_without_examples_has_a_report(tmp_path: Path) -> None:
    folder = words(tmp_path, splits={"train": []})
    assert "0 examples" in report(folder, tmp_path / "out", lambda done: None).read_text()


def test_the_page_stays_small(tmp_path: Path) -> None:
    """Whatever the dataset: here are 160 clips of 20 s, 51 MB, with names of 10,000 letters."""
    rows = [
        (f"{i:03d}" + 10_000 * "k", {"word": i, "speaker": f"s{i}"}, voice(i % 9, 20 * RATE)[i:])
        for i in range(160)
    ]
    folder = words(
        tmp_path, splits={"train": rows}, classes={"word": [f"w{i}" for i in range(160)]}
    )
    page = report(folder, tmp_path / "out", lambda done: None)
    assert 4_000_000 < page.stat().st_size < 8_000_000


def test_a_damaged_shard_is_told(tmp_path: Path) -> None:
    folder = words(tmp_path)
    path = next(folder.glob("*.arrow"))
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(DatasetError, match="not a whole shard"):
        report(folder, tmp_path / "out", lambda done: None)
    assert not (tmp_path / "out" / "report.html").exists()


def test_the_command_makes_a_page_for_every_dataset(
    tmp_path: Path, digits_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "reports"
    assert main(["report", str(words(tmp_path)), str(digits_dataset), "--out", str(out)]) == 0
    pages = capsys.readouterr().out.splitlines()
    assert pages == [str(out / name / "report.html") for name in ("words", digits_dataset.name)]
    assert {p.name for p in (out / "words").iterdir()} == {
        "report.html", "labels.png", "lengths.png", "measures.png",
    }  # fmt: skip
    assert main(["report", str(tmp_path / "words"), str(tmp_path / "words")]) == 2
    assert "expected names that differ" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 1
    assert "expected a sealed dataset" in capsys.readouterr().err


def test_what_a_preparation_found_is_shown(ask_commands: Ask, tmp_path: Path) -> None:
    folder = prepare_dataset(ask_commands()).folder
    html = report(folder, tmp_path / "out", lambda done: None).read_text(encoding="utf-8")
    assert "A miniature" in html
    assert html.count('<li class="tile">') == 15
    assert "whether a recording was clipped" in html


@pytest.mark.real
@pytest.mark.parametrize("features", ["mfcc", "waveform"])
def test_the_pair_in_the_real_subset_is_found(tmp_path: Path, cache: Path, features: str) -> None:
    folder = prepare_dataset(
        Request(
            "speech_commands",
            features=features,
            manifest=Path(__file__).parent / "real" / "speech_commands.toml",
            sources={"v1": real_data() / "speech_commands_v0.01_subset.tar.gz"},
            out=tmp_path,
            cache=cache,
            workers=2,
            offline=True,
        )
    ).folder
    found = judged(folder)
    (pair,) = found.twins
    keys = {found.found.keys[clip] for clip in pair.clips}
    assert keys == {"left/9a7c1f83_nohash_2", "left/9a7c1f83_nohash_3"}
    first = found.strange.order(found.found.keys)[:2].tolist()
    assert set(first) == set(pair.clips)
    assert {"3 clips are silent", "Same audio under two names: 1 case"} <= set(titles(folder))


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


def test_a_script_that_the_font_lacks_is_no_warning(tmp_path: Path) -> None:
    drawn = figure(2, 2)
    drawn.suptitle("日本語")
    write_figure(tmp_path / "x.png", drawn)
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
