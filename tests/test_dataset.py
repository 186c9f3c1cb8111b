"""Opening and verifying sealed datasets: damage is found, and said where."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset import NAME, open_sealed, verify
from pipeline.errors import DatasetError
from pipeline.features import Mfcc
from pipeline.loader import open_dataset
from pipeline.report.survey import survey
from tests.sealed import Made, write_made


@pytest.fixture
def copy(digits_dataset: Path, tmp_path: Path) -> Path:
    return shutil.copytree(digits_dataset, tmp_path / "copy")


def small(tmp_path: Path) -> Path:
    rows = [(f"k{n}", {"digit": n, "n": n}, np.ones((2, 2), np.float32)) for n in range(3)]
    labels = {"digit": "class", "n": "int"}
    made = Made(Mfcc.at(16000, n_mfcc=2), labels, {"train": rows}, {"digit": ["a", "b", "c"]})
    return write_made(tmp_path / "small", made)


def problems(folder: Path) -> list[str]:
    return verify(folder, lambda size: None)


def test_a_sealed_dataset_opens_and_verifies(copy: Path) -> None:
    sealed = open_sealed(copy)
    assert {split: sealed.rows(split) for split in sealed.splits} == {
        "train": 300,
        "validation": 100,
        "test": 100,
    }
    sizes: list[int] = []
    assert verify(copy, sizes.append) == []
    assert sum(sizes) == sum(path.stat().st_size for path in copy.glob("*.arrow"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no json", "expected a sealed dataset with a dataset.json, got an unfinished build"),
        ("nothing", "got no dataset; make one with: shardwell prepare RECIPE"),
        ("text", "not readable as JSON"),
        ("format", "expected format 1, got 2"),
        ("list", "expected format 1, got None"),
        ("keys", "damaged: KeyError"),
        ("findings", "damaged: KeyError: 'findings'"),
        ("escape", "'../../etc/passwd': no shard's name"),
        ("missing", "train-00000-of-00001.arrow: the shard is missing"),
        ("cut", "train-00000-of-00001.arrow: expected "),
    ],
)
def test_what_can_not_be_opened_is_one_clear_line(copy: Path, damage: str, message: str) -> None:
    info = json.loads((copy / NAME).read_text())
    shard = copy / "train-00000-of-00001.arrow"
    if damage == "no json":
        (copy / NAME).unlink()
    elif damage == "nothing":
        shutil.rmtree(copy)
    elif damage == "missing":
        shard.unlink()
    elif damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-1])
    else:
        if damage == "escape":
            info["splits"]["train"][0]["shard"] = "../../etc/passwd"
        text = {
            "text": "{",
            "format": json.dumps(info | {"format": 2}),
            "list": "[]",
            "keys": json.dumps({k: v for k, v in info.items() if k != "columns"}),
            "findings": json.dumps({k: v for k, v in info.items() if k != "findings"}),
            "escape": json.dumps(info),
        }[damage]
        (copy / NAME).write_text(text)
    with pytest.raises(DatasetError) as caught:
        open_sealed(copy)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


FOUND = {
    "key": "a", "split": "train", "source": "main", "offset": 0, "size": 9,
    "reason": "odd", "left_out": False,
}  # fmt: skip


def statistics(mean: Any, std: Any) -> dict[str, Any]:
    return {"statistics": {"split": "train", "mean": mean, "std": std}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": {}}, "no classes of digit"),
        ({"classes": {"digit": ["a"], "n": ["b"]}}, "classes of labels that it has not"),
        ({"classes": {"digit": "abc"}}, "classes of digit: expected a list of texts, got 'abc'"),
        ({"classes": {"digit": [1]}}, "classes of digit: expected a list of texts"),
        ({"classes": []}, "classes is no table"),
        (statistics([0.0, 0.0], None), "one of mean and std without the other"),
        (statistics(None, [0.0, 0.0]), "one of mean and std without the other"),
        (statistics([0.0, 10**400], [0, 1]), "mean: expected finite numbers"),
        (statistics([0.0, math.nan], [0, 1]), "mean: expected finite numbers"),
        (statistics([0.0, 0.0], [math.inf, 1]), "std: expected finite numbers"),
        (statistics([0.0, True], [0, 1]), "mean: expected finite numbers"),
        (statistics([0.0], [0.0]), "1 of mean"),
        (statistics({"0": 0, "1": 1}, [0, 0]), "mean is no list"),
        ({"findings": [FOUND | {"reason": None}]}, "reason of a finding: expected str, got None"),
        ({"findings": [FOUND | {"left_out": 1}]}, "left_out of a finding: expected bool, got 1"),
        ({"findings": [FOUND | {"size": True}]}, "size of a finding: expected int, got True"),
        ({"findings": [list(FOUND)]}, "a finding is no table"),
        ({"findings": [{"key": "a"}]}, "findings without key, split, reason and place"),
        ({"findings": {}}, "findings is no list"),
        ({"versions": 1}, "versions is no table"),
        ({"sources": ["a"]}, "sources: no table"),
        ({"sources": None}, "sources: no table"),
        ({"audio": [1]}, "audio: no table"),
        ({"protocol": {"name": "all", "params": None}}, "params of the protocol: no table"),
    ],
)
def test_what_dataset_json_says_wrong_is_one_line(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    folder = small(tmp_path)
    info = json.loads((folder / NAME).read_text())
    (folder / NAME).write_text(json.dumps(info | changes))
    with pytest.raises(DatasetError) as caught:
        open_sealed(folder)
    assert f"{folder / NAME}: damaged: ValueError: " in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "changes",
    [
        statistics(None, None),
        statistics([0, -1e30], [0, 1.5]),
        {"findings": [FOUND, FOUND | {"left_out": True, "more": None}]},
        {"audio": None},
        {"audio": {"sample_rate": 16000}, "sources": {"main": "0" * 64}},
    ],
)
def test_what_dataset_json_may_say(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = small(tmp_path)
    info = json.loads((folder / NAME).read_text())
    (folder / NAME).write_text(json.dumps(info | changes))
    assert open_sealed(folder).rows("train") == 3


def test_a_shard_listed_twice_is_found(copy: Path) -> None:
    info = json.loads((copy / NAME).read_text())
    info["splits"]["train"] *= 2
    (copy / NAME).write_text(json.dumps(info))
    with pytest.raises(DatasetError, match="train-00000-of-00001: listed more than once"):
        open_sealed(copy)


def test_every_reader_finds_a_class_without_a_name(tmp_path: Path) -> None:
    """``dataset.json`` may be sound, and the shard too, but not together."""
    folder = small(tmp_path)
    info = json.loads((folder / NAME).read_text())
    info["classes"]["digit"] = ["a", "b"]
    (folder / NAME).write_text(json.dumps(info))
    message = "label digit: expected classes below 2, or -1 for none, got 2"
    assert message in "".join(problems(folder))
    with pytest.raises(DatasetError, match=message):
        open_dataset(folder)["train"].filter("digit", ["a"])
    with pytest.raises(DatasetError, match=message):
        survey(open_sealed(folder), lambda size: None)


def test_a_flipped_bit_is_found_by_verify(copy: Path) -> None:
    shard = copy / "test-00000-of-00001.arrow"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    (problem,) = problems(copy)
    assert problem.startswith(f"{shard}: expected sha256 ")


def test_another_shard_in_its_place_is_found_by_verify(copy: Path) -> None:
    """The right hash of the wrong thing: rows and columns are checked, too."""
    info = json.loads((copy / NAME).read_text())
    info["splits"]["train"][0]["rows"] = 299
    (copy / NAME).write_text(json.dumps(info))
    assert problems(copy) == [f"{copy / 'train-00000-of-00001.arrow'}: expected 299 rows, got 300"]
    info["columns"]["labels"], info["classes"] = {"total": "class"}, {"total": ["0"]}
    (copy / NAME).write_text(json.dumps(info))
    assert "expected one batch with the columns" in problems(copy)[0]
