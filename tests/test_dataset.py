"""Opening and verifying sealed datasets: damage is found, and said where."""

import json
import shutil
from pathlib import Path

import pytest

from pipeline.dataset import NAME, open_sealed, verify
from pipeline.errors import DatasetError


@pytest.fixture
def copy(digits_dataset: Path, tmp_path: Path) -> Path:
    return shutil.copytree(digits_dataset, tmp_path / "copy")


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
    info["columns"]["labels"] = {"total": "class"}
    (copy / NAME).write_text(json.dumps(info))
    assert "expected one batch with the columns" in problems(copy)[0]
