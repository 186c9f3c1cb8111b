"""Splits of a person's own recordings: as their folders say, or by a hash, speakers kept whole."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset import open_sealed
from pipeline.errors import RecipeError
from pipeline.manifest import PROMISED
from pipeline.prepare import prepare_dataset
from pipeline.splits import share_out, split_named
from tests.clips import ask, recordings, shares, write_folder


def test_split_folders_are_taken_and_can_be_left(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for split, count in (("train", 6), ("dev", 2), ("Test", 4)):
        write_folder(root / split, ("a", "b"), count)
    found = shares(ask(root, tmp_path))
    assert found["dev/a/clip00.wav"] == "validation"
    assert sorted(found.values()) == ["test"] * 4 + ["train"] * 6 + ["validation"] * 2
    hashed = ask(root, tmp_path, params="splits=hash,shares=1+1+1")
    assert open_sealed(Path(prepare_dataset(hashed).folder)).classes["label"] == (
        "Test",
        "dev",
        "train",
    )
    flat = write_folder(tmp_path / "flat", ("train", "bus"))
    assert set(shares(ask(flat, tmp_path, params="seed=1")).values()) == {
        "train",
        "validation",
        "test",
    }
    with pytest.raises(RecipeError, match="splits=folders: expected folders train, validation"):
        prepare_dataset(ask(flat, tmp_path, params="splits=folders"))


def test_speakers_are_never_in_two_splits(tmp_path: Path) -> None:
    root = tmp_path / "data"
    ((_, data),) = recordings(1)
    for word in ("ja", "nein"):
        for speaker in range(12):
            for take in range(2):
                path = root / word / f"s{speaker}_{take}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    found = shares(ask(root, tmp_path, params="speaker_before=_,shares=2+1+1"))
    splits: dict[str, set[str]] = {}
    for key, split in found.items():
        splits.setdefault(key.split("/")[1].split("_")[0], set()).add(split)
    assert all(len(of_one) == 1 for of_one in splits.values())
    assert {split for of_one in splits.values() for split in of_one} == {
        "train",
        "validation",
        "test",
    }
    with pytest.raises(RecipeError, match="expected a speaker, then '-', behind its class folder"):
        prepare_dataset(ask(root, tmp_path, params="speaker_before=-"))


def test_a_seed_that_leaves_no_split_empty_is_named() -> None:
    groups = ["anna", "ben", "cy", "dora", "eve", "fay"]
    with pytest.raises(RecipeError, match=r"test: no example; 6 groups .* try seed=") as caught:
        share_out(groups, [2, 1, 1], seed=2)
    seed = int(str(caught.value).partition("try seed=")[2].partition(",")[0])
    assert set(share_out(groups, [2, 1, 1], seed).values()) == set(PROMISED)
    with pytest.raises(RecipeError, match="try another seed, other shares"):
        share_out(groups[:2], [2, 1, 1], seed=2)


def test_shares_are_about_what_is_stated_and_nobody_moves() -> None:
    groups = [f"speaker {i}" for i in range(3000)]
    found = share_out(groups, [8, 1, 1], seed=5)
    counts = {split: list(found.values()).count(split) for split in PROMISED}
    assert np.allclose(list(counts.values()), [2400, 300, 300], atol=60)
    more = share_out([*groups, *(f"new {i}" for i in range(1000))], [8, 1, 1], seed=5)
    assert {group: more[group] for group in groups} == found
    assert share_out(groups, [8, 1, 1], seed=6) != found
    assert set(share_out(groups, [1, 0, 0], seed=5).values()) == {"train"}


@pytest.mark.parametrize(
    ("seed", "splits"),
    [
        (0, "rraeraarrrrr"),
        (-7, "rarrraraarer"),
        (10**63, "aarrrrrrrera"),  # 64 digits: the longest key of the hash
        (10**64, "eaaraerrrrer"),
        (10**69, "eeaararreare"),
        (10**69 + 1, "rreaaeaearre"),
    ],
)
def test_a_seed_of_any_length_has_its_splits(seed: int, splits: str) -> None:
    found = share_out([f"speaker {i}" for i in range(12)], [2, 1, 1], seed)
    assert "".join(split[1] for split in found.values()) == splits


@pytest.mark.parametrize(
    ("name", "split"),
    [("Dev", "validation"), ("training", "train"), ("test", "test"), ("noise", None), ("", None)],
)
def test_what_people_call_splits(name: str, split: str | None) -> None:
    assert split_named(name) == split
