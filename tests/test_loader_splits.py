"""Splits and their parts: chosen by row, label or class, viewed by others, known by identity."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import UnknownNameError, UsageError
from pipeline.loader import make_loader, open_dataset
from pipeline.prepare import prepare_dataset
from tests.conftest import Ask
from tests.sealed import stored


def test_a_part_of_a_split_is_a_split(digits_dataset: Path) -> None:
    split = open_dataset(digits_dataset, key=True)["train"]
    sums = split.column("sum")
    assert sums.dtype == np.int64
    assert sums.tolist() == [int(split[i]["sum"]) for i in range(len(split))]
    small = split.select(np.flatnonzero(sums < 8))
    assert 0 < len(small) < len(split)
    assert (small.column("sum") < 8).all()
    assert small.select([-1])[0]["key"] == small[len(small) - 1]["key"]
    assert pickle.loads(pickle.dumps(small))[0]["key"] == small[0]["key"]
    with pytest.raises(IndexError, match="there are"):
        small.select([len(small)])
    with pytest.raises(UnknownNameError, match="unknown column of train 'word'"):
        split.column("word")


def test_lengths_are_a_column(phrases_dataset: Path) -> None:
    split = open_dataset(phrases_dataset)["train"]
    lengths = split.column("lengths")
    assert lengths.tolist() == [len(features) for _, features in stored(split)]
    assert split.column("text").tolist() == split.batch(range(len(split)))["text"]
    assert split.column("key").tolist() == [key for key, _ in stored(split)]
    with pytest.raises(UnknownNameError, match="expected one of key, lengths"):
        split.column("words")


def test_slices_and_filters_are_splits(digits_dataset: Path, phrases_dataset: Path) -> None:
    split = open_dataset(digits_dataset, key=True)["train"]
    keys = split.column("key").tolist()
    assert split[10:20].column("key").tolist() == keys[10:20]
    assert split[::-7].batch(range(3))["key"] == keys[::-7][:3]
    assert split[5:50][2:4][1]["key"] == keys[8]
    few = split.filter("sum", [3, 4])
    assert set(few.column("sum").tolist()) == {3, 4}
    assert len(few) == int(np.isin(split.column("sum"), [3, 4]).sum())
    assert few.filter("key", [few[1]["key"]])[0]["sum"] == few[1]["sum"]
    texts = open_dataset(phrases_dataset)["train"]
    short = texts.filter("lengths", lambda n: n <= np.median(n))
    assert 0 < len(short) < len(texts)
    assert short.column("lengths").max() <= np.median(texts.column("lengths"))
    with pytest.raises(UsageError, match=r"filter by lengths: expected 300 bools, got int64"):
        split.filter("lengths", lambda n: n)
    for column, keep in (("key", "abc"), ("key", [3]), ("lengths", ["a"]), ("lengths", [1.5])):
        with pytest.raises(UsageError, match=f"filter by {column}: expected a list of"):
            split.filter(column, keep)
    for large in (1 << 70, -(1 << 63) - 1, np.uint64((1 << 64) - 1)):
        with pytest.raises(UsageError, match="filter by lengths: expected numbers of 64 bits"):
            split.filter("lengths", [5, large])
    assert len(split.filter("sum", np.array([3, 4], np.uint8))) == len(few)
    with pytest.raises(UsageError, match="filter by lengths: expected a list of numbers, got '3'"):
        split.filter("lengths", 3)  # type: ignore[arg-type]


def test_classes_are_filtered_by_name(ask_commands: Ask) -> None:
    split = open_dataset(prepare_dataset(ask_commands()).folder)["train"]
    names = split.classes["word"]
    part = split.filter("word", [names[1]])
    assert part.column("word").tolist() == [1] * len(part)
    assert len(split.filter("word", [1])) == len(part) > 0
    for numbers in (np.array([1]), [np.int32(1)], np.array([1], np.uint64)):
        assert len(split.filter("word", numbers)) == len(part)
    assert len(split.filter("word", np.array([0, 1]))) == len(split.filter("word", names[:2]))
    assert len(split.filter("word", lambda words: words == names[1])) == len(part)
    for unknown in ("soup", 99):
        with pytest.raises(UnknownNameError, match=f"unknown class of word '{unknown}'"):
            split.filter("word", [unknown])


def test_labels_are_chosen(ask_commands: Ask) -> None:
    folder = prepare_dataset(ask_commands()).folder
    whole = open_dataset(folder)["train"]
    part = open_dataset(folder, labels=["word"])["train"]
    assert set(part.batch([0])) == set(part[0]) == {"features", "lengths", "word"}
    assert torch.equal(part.batch([2, 1])["word"], whole.batch([2, 1])["word"])
    assert set(open_dataset(folder, labels=())["train"][0]) == {"features", "lengths"}
    with pytest.raises(UnknownNameError, match=r"unknown label of .* 'words'"):
        open_dataset(folder, labels=["words"])


def test_indices_are_whole_numbers_or_a_bool_each(digits_dataset: Path) -> None:
    split = open_dataset(digits_dataset, key=True)["train"]
    mask = split.column("sum") > 9
    assert split.select(mask).column("key").tolist() == split.column("key")[mask].tolist()
    for bad in ([1.5], ["a"], mask[:5], [None]):
        with pytest.raises(
            UsageError, match="indices of train: expected whole numbers or 300 bool"
        ):
            split.select(bad)
    for single in (1.5, [1, 2], mask):
        with pytest.raises(UsageError, match=r"expected a number; select\(\) takes several"):
            split[single]  # type: ignore[call-overload]
    assert split[np.int64(3)]["key"] == split[3]["key"]
    with pytest.raises(UsageError, match="expected a split, as data"):
        make_loader(open_dataset(digits_dataset), 4)  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [2**64 - 1, 2**64 - 2, 2**63, 2**70, -(2**70), 300, -301])
def test_an_index_that_is_too_large_is_not_another(digits_dataset: Path, index: int) -> None:
    split = open_dataset(digits_dataset)["train"]
    message = rf"train\[{index}\]: there are 300 examples"
    for part in (split, split[::1]):
        for ask in (
            part.__getitem__,
            lambda i, part=part: part.batch([i]),
            lambda i, part=part: part.select([3, i]),
        ):
            with pytest.raises(IndexError, match=message):
                ask(index)


def test_indices_of_any_whole_type(digits_dataset: Path) -> None:
    split = open_dataset(digits_dataset)["train"]
    for kind in (np.uint8, np.uint64, np.int32, object):
        indices = np.array([7, 0], kind)
        assert split.batch(indices)["sum"].tolist() == [split[7]["sum"], split[0]["sum"]]
    assert len(split.select(np.array([], np.uint64))) == len(split.select([])) == 0


def test_a_split_without_shards_is_empty(digits_dataset: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(digits_dataset, tmp_path / "copy")
    info = json.loads((folder / "dataset.json").read_text())
    info["splits"]["test"] = []
    (folder / "dataset.json").write_text(json.dumps(info))
    split = open_dataset(folder)["test"]
    assert len(split) == 0
    assert len(split.batch([])["features"]) == 0
    assert list(make_loader(split, 4, shuffle=True)) == []
    with pytest.raises(IndexError, match="there are 0 examples"):
        split[0]


def test_identity_is_of_the_examples_and_their_order(
    digits_dataset: Path, phrases_dataset: Path
) -> None:
    data = open_dataset(digits_dataset)
    train = data["train"]
    parts = [train, train[:299], train[::-1], train.select([1, 2]), train.select([2, 1])]
    parts += [data["test"], open_dataset(phrases_dataset)["train"]]
    assert len({part.identity for part in parts}) == len(parts)
    assert open_dataset(digits_dataset)["train"].identity == train.identity
    loader = make_loader(train[:200], 10)
    with pytest.raises(UsageError, match=r"data=.*: the state was saved with data="):
        loader.load_state_dict(make_loader(train[100:], 10).state_dict())


def test_fingerprints_are_of_the_rows_and_columns(digits_dataset: Path) -> None:
    """The library takes what ``map`` made before by them: another split's would be served."""

    def made() -> list[str]:
        data, bare = open_dataset(digits_dataset), open_dataset(digits_dataset, labels=[])
        keyed = open_dataset(digits_dataset, key=True)
        splits = [data["train"], data["validation"], data["test"], data["train"][:9]]
        splits += [data["train"][9:18], bare["train"], keyed["train"]]
        return [split.to_hf()._fingerprint for split in splits]

    assert made() == made()
    assert len(set(made())) == len(made())


@pytest.mark.parametrize("same", [False, True])
def test_fingerprints_of_splits_of_equal_shape(
    digits_dataset: Path, tmp_path: Path, same: bool
) -> None:
    """Also where one shard's bytes are another's."""
    folder = shutil.copytree(digits_dataset, tmp_path / "copy")
    info = json.loads((folder / "dataset.json").read_text())
    if same:
        (shard,) = info["splits"]["test"]
        name = shard["shard"].replace("test", "validation")
        shutil.copy(folder / f"{shard['shard']}.arrow", folder / f"{name}.arrow")
        info["splits"]["validation"] = [shard | {"shard": name}]
    (folder / "dataset.json").write_text(json.dumps(info))
    data = open_dataset(folder)
    assert data["test"].to_hf()._fingerprint != data["validation"].to_hf()._fingerprint


def test_a_hugging_face_dataset_views_the_shards(phrases_dataset: Path, ask_commands: Ask) -> None:
    split = open_dataset(phrases_dataset, key=True)["train"]
    theirs = split.to_hf()
    assert set(theirs.column_names) == {"key", "text", "normalized_text", "tokens", "features"}
    assert set(open_dataset(phrases_dataset, labels=[])["train"].to_hf().column_names) == {
        "features"
    }
    with pytest.raises(UsageError, match="to_hf gives features as stored"):
        open_dataset(phrases_dataset, normalize=True)["train"].to_hf()
    assert theirs["key"][:] == [key for key, _ in stored(split)]
    for row, (_, features) in zip(theirs.with_format("numpy"), stored(split), strict=True):
        np.testing.assert_array_equal(row["features"], features)
    assert split[1:3].to_hf()["key"][:] == split[1:3].column("key").tolist()
    column = theirs.data.column("features").chunk(0)
    values = column.values.values if hasattr(column.values, "values") else column.values
    mapped = split._mapped.shard(0).values
    assert values.buffers()[1].address == mapped.ctypes.data
    own = open_dataset(prepare_dataset(ask_commands()).folder)["train"]
    words = own.to_hf()
    assert words.features["word"].names == list(own.classes["word"])
    assert words.with_format("torch")[0]["features"].shape[1] == 40
