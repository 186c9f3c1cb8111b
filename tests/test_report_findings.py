"""What a report finds: mistakes of clips, labels, texts and splits, and none in sound data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset import open_sealed
from pipeline.features import Feature, LogMel, Waveform
from pipeline.prepare import Request, prepare_dataset
from pipeline.report import report
from pipeline.report.examples import tiles
from pipeline.report.page import _search
from pipeline.report.problems import Judged, problems
from pipeline.report.strange import deviations, strange
from pipeline.report.survey import survey
from pipeline.report.twins import speakers, twins
from tests.conftest import real_data
from tests.reported import RATE, voice, words


def judged(folder: Path) -> Judged:
    found = survey(open_sealed(folder), lambda done: None)
    groups = twins(found)
    return Judged(found, strange(found, groups), groups, speakers(found, 5))


def titles(folder: Path) -> list[str]:
    return [problem.title for problem in problems(judged(folder))[0]]


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


LOUD, MEL = Waveform(RATE, "float32"), LogMel.at(RATE)
HALF = LogMel.at(RATE, dtype="float16")


@pytest.mark.parametrize(
    ("feature", "value", "wild"),
    [
        (LOUD, 9.0, False),
        (LOUD, 32767.0, True),
        (LOUD, 1e20, True),
        (LOUD, -3e38, True),
        (LOUD, np.nan, True),
        (LOUD, np.inf, True),
        (MEL, -1e4, False),
        (MEL, 3e38, True),
        (MEL, np.nan, True),
        (HALF, 65504.0, False),
        (HALF, -np.inf, True),
    ],
    ids=lambda value: getattr(value, "kind", None),
)
def test_values_out_of_range_are_told(
    tmp_path: Path, feature: Feature, value: float, wild: bool
) -> None:
    """A single one, in a shard that was damaged or samples that were never scaled."""
    waves = [voice(i) for i in range(20)]
    rows = [
        (f"clip-{i}", {"word": i % 2, "speaker": "a"}, np.array(feature.apply(wave[None])[0]))
        for i, wave in enumerate(waves)
    ]
    rows[4][2].flat[700] = value
    splits = {"train": rows}
    folder = words(tmp_path, feature=feature, splits=splits, statistics=False)
    told = "1 clip with values out of range"
    assert (told in titles(folder)) == wild
    found = judged(folder)
    assert ("values out of range" in found.strange.reasons.get(4, ())) == wild
    assert np.flatnonzero(found.found.wild).tolist() == [4] * wild
    assert all(np.isfinite(values).all() for values in found.found.measures.values())
    html = report(folder, tmp_path / "out", lambda done: None).read_text(encoding="utf-8")
    assert (told in html) == wild


def test_every_link_to_the_examples_finds_some(tmp_path: Path) -> None:
    """As the page's script searches: all words in a tile's texts."""
    text = "some forty characters of spoken English "
    rows = [
        (f"clip-{i}", {"word": i % 2, "speaker": "a", "text": text[: 20 + i % 9]}, voice(i))
        for i in range(60)
    ]
    for spoil, at in {silent: 10, clipped: 11, off_centre: 12, long: 13, empty: 14}.items():
        own = rows[at:]
        spoil(own)
        rows[at] = own[0]
    rows[20] = ("twin", rows[22][1], rows[22][2])
    rows[24] = ("other label", rows[25][1], rows[26][2])
    rows[50] = ("other split", rows[50][1], rows[28][2])
    rows[30] = ("slow", rows[30][1] | {"text": "a"}, rows[30][2])
    rows[32] = ("wild", rows[32][1], rows[32][2] * np.float32(1e9))
    odd = {"split": "train", "source": "x", "offset": 0, "size": 1, "left_out": False}
    found = judged(
        words(
            tmp_path,
            labels={"word": "class", "speaker": "text", "text": "text"},
            splits={"train": rows[:40], "test": rows[40:]},
            findings=[
                odd | {"key": "clip-10", "reason": "silent: nothing above −60 dB"},
                odd | {"key": "clip-34", "reason": "truncated: 3 of 4 samples"},
            ],
        )
    )
    searched = [row["find"] for row in _search(tiles(found.found, found.strange))]
    links = {problem.title: problem.find for problem in problems(found)[0] if problem.find}
    assert len(links) == 11
    for title, find in links.items():
        assert any(all(word in row for word in find.lower().split()) for row in searched), title


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


def test_half_of_equal_values_hides_no_outlier() -> None:
    far = deviations(np.array([1.0] * 99 + [0.5], np.float32))
    assert far[-1] < -4
    assert (far[:-1] == 0).all()
    assert (deviations(np.ones(5, np.float32)) == 0).all()


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
