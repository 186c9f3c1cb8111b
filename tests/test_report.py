"""The report's page: for every kind of dataset, always the same, with nothing executed on it."""

import base64
import hashlib
import json
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.cli import main
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
from pipeline.images import as_png
from pipeline.prepare import Request, prepare_dataset
from pipeline.report import report
from pipeline.report.drawing import image_picture
from tests.reported import HOSTILE, RATE, hostile, voice, words
from tests.sealed import Made, write_made

Ask = Callable[..., Request]
Array = npt.NDArray[Any]


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


def test_the_page_stays_small_for_large_images(tmp_path: Path) -> None:
    """150 images of noise, which no PNG makes smaller, of 75 classes: 39 MB as they are stored."""
    rng = np.random.default_rng(0)
    rows = [
        (f"{i}", {"word": i % 75}, rng.integers(0, 256, (512, 512), np.uint8)) for i in range(150)
    ]
    made = Made(
        Pixels(512, 512),
        {"word": "class"},
        {"train": rows},
        {"word": [f"w{i}" for i in range(75)]},
        fixed=True,
        hints={"target": "word"},
        corpus={"title": "Noise"},
    )
    page = report(write_made(tmp_path / "made", made), tmp_path / "out", lambda done: None)
    assert page.read_text(encoding="utf-8").count('<li class="tile">') == 144
    assert 3_000_000 < page.stat().st_size < 8_000_000


@pytest.mark.parametrize(
    ("height", "width", "drawn"),
    [(28, 28, (28, 28)), (512, 256, (128, 64)), (100, 1000, (13, 128)), (1, 4000, (1, 128))],
)
def test_an_image_keeps_its_proportions(height: int, width: int, drawn: tuple[int, int]) -> None:
    feature = Pixels(height, width)
    image = np.tile(np.linspace(0, 255, width), (height, 1)).astype(np.uint8)
    png = image_picture(image, feature)
    assert struct.unpack(">II", png[16:24]) == drawn[::-1]
    if (height, width) == drawn:
        assert png == as_png(image)
    else:  # a ramp stays one: nothing overflowed
        data = zlib.decompress(png[41 : png.rindex(b"IEND") - 8])
        lines = np.frombuffer(data, np.uint8).reshape(drawn[0], drawn[1] + 1)[:, 1:]
        assert (np.diff(lines.astype(int), axis=1) >= 0).all()
        assert abs(float(lines.mean()) - float(image.mean())) < 1


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
