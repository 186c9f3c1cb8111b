"""A miss says which declared value changed."""

import json
import logging
from pathlib import Path

import pytest

from pipeline.dataset import NAME
from pipeline.prepare import prepare_dataset
from pipeline.prepare.nearest import differences
from tests.conftest import Ask

BASE = {"format": 1, "features": {"kind": "mfcc", "n_mels": 64}, "sources": {"main": "ab"}}


def put(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir()
    (folder / name / NAME).write_text(text)


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (BASE | {"format": 2}, "a has another fingerprint: format is 2, not 1"),
        (
            BASE | {"features": {"kind": "mfcc", "n_mels": 40}},
            "a has another fingerprint: features.n_mels is 40, not 64",
        ),
        (
            BASE | {"features": {"kind": "mfcc"}, "sources": {"main": "cd"}},
            "a has another fingerprint: features.n_mels is absent, not 64; "
            'sources.main is "cd", not "ab"',
        ),
        (
            BASE | {"features": {"kind": "x", "n_mels": 80, "hop": 1}},
            "b has another fingerprint: features.hop is 1, not absent",
        ),
        (
            BASE | {"sources": {"main": "ab" * 32}},
            'a has another fingerprint: sources.main is abababab…, not "ab"',
        ),
        (BASE | {"features": {"kind": "pixels"}}, None),  # nobody mistakes it for one of these
    ],
)
def test_the_nearest_dataset_tells_what_changed(
    tmp_path: Path, wanted: dict, told: str | None
) -> None:
    put(tmp_path, "a", json.dumps(BASE | {"splits": {}}))
    put(tmp_path, "b", json.dumps(BASE | {"features": {"kind": "x", "n_mels": 80}}))
    put(tmp_path, "broken", "{")
    put(tmp_path, "odd", "[]")
    assert differences(wanted, tmp_path) == told


def test_many_differences_are_counted(tmp_path: Path) -> None:
    put(tmp_path, "a", json.dumps(BASE))
    told = differences(
        BASE | {"features": {"kind": "mfcc"} | {f"p{i}": i for i in range(9)}}, tmp_path
    )
    assert told is not None
    assert told.endswith("; and 5 more")


def test_without_a_dataset_there_is_nothing_to_tell(tmp_path: Path) -> None:
    put(tmp_path, "broken", "{")
    assert differences(BASE, tmp_path) is None
    assert differences(BASE, tmp_path / "absent") is None


def test_a_run_that_misses_says_why(ask_digits: Ask, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pipeline"):
        first = prepare_dataset(ask_digits(protocol="free")).folder
        assert not caplog.messages
        prepare_dataset(ask_digits(protocol="free"))
        assert not caplog.messages
        second = prepare_dataset(ask_digits(protocol="free", params="seed=7")).folder
    (told,) = caplog.messages
    assert told.startswith(f"{second.name} is a new dataset; {first.name} has another fingerprint:")
    assert "protocol.params.seed is 7, not " in told


def test_a_dataset_with_a_lost_shard_says_so(
    ask_digits: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    folder = prepare_dataset(ask_digits()).folder
    next(folder.glob("train-*.arrow")).unlink()
    with caplog.at_level(logging.INFO, "pipeline"):
        prepare_dataset(ask_digits())
    assert caplog.messages == [f"{folder}: shards are missing or damaged; building those again"]
