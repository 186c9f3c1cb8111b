"""Loading: items view the map, batches are padded, the order is a function of (seed, epoch)."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import DatasetError, UnknownNameError, UsageError
from pipeline.loader import make_loader, open_dataset
from pipeline.prepare import prepare_dataset
from tests.conftest import Ask
from tests.sealed import stored


def test_items_are_what_is_stored(phrases_dataset: Path) -> None:
    split = open_dataset(phrases_dataset, key=True)["train"]
    for i, (key, features) in enumerate(stored(split)):
        item = split[i]
        assert item["key"] == key
        assert item["features"].dtype == torch.float32
        np.testing.assert_array_equal(item["features"], features)
        assert item["lengths"] == len(features)
        assert isinstance(item["text"], str)
    split[0]["features"].zero_()  # is the item's own
    assert split[0]["features"].any()
    assert split.batch([0])["features"].any()
    assert torch.equal(split[-1]["features"], split[len(split) - 1]["features"])
    with pytest.raises(IndexError, match=r"train\[6\]: there are 6 examples"):
        split[6]


@pytest.mark.parametrize("features", ["waveform", "waveform:dtype=float32"])
def test_waveforms_are_served_in_minus_one_to_one(ask_commands: Ask, features: str) -> None:
    split = open_dataset(prepare_dataset(ask_commands(features=features)).folder)["train"]
    item = split[0]["features"]
    assert (item.dtype, item.shape) == (torch.float32, (16000,))
    assert 0.01 < item.abs().max() <= 1
    assert torch.equal(split.batch([0])["features"][0], item)


def test_tokens_are_served_as_they_are(digits_dataset: Path) -> None:
    data = open_dataset(digits_dataset)
    batch = data["train"].batch([0, 5, 2])
    assert batch["features"].dtype == torch.int64
    assert batch["features"].shape == (3, 5)
    assert torch.equal(batch["sum"], batch["features"][:, :2].sum(1))
    assert "key" not in batch
    assert list(data) == ["train", "validation", "test"]
    assert len(data) == 3
    with pytest.raises(UnknownNameError, match=r"unknown split of .* 'dev': expected one of"):
        data["dev"]


def test_batches_are_padded_with_zeros(phrases_dataset: Path) -> None:
    split = open_dataset(phrases_dataset, key=True)["train"]
    wanted = [3, 0, 5]
    batch = split.batch(wanted)
    expected = [stored(split)[i] for i in wanted]
    assert batch["key"] == [key for key, _ in expected]
    assert batch["lengths"].tolist() == [len(f) for _, f in expected]
    assert batch["features"].shape == (3, max(len(f) for _, f in expected), 40)
    for row, (_, features) in zip(batch["features"], expected, strict=True):
        np.testing.assert_array_equal(row[: len(features)], features)
        assert not row[len(features) :].any()
    assert len(batch["text"]) == 3


def test_normalising_gives_zero_mean_and_unit_variance(phrases_dataset: Path) -> None:
    split = open_dataset(phrases_dataset, normalize=True)["train"]
    everything = torch.cat([split[i]["features"] for i in range(len(split))])
    torch.testing.assert_close(everything.mean(0), torch.zeros(40), atol=1e-4, rtol=0)
    torch.testing.assert_close(everything.std(0), torch.ones(40), atol=1e-3, rtol=0)
    batch = split.batch([0, 1])
    assert torch.equal(batch["features"][1, : batch["lengths"][1]], split[1]["features"])


def test_zeros_stand_behind_normalised_examples(phrases_dataset: Path) -> None:
    batch = open_dataset(phrases_dataset, normalize=True)["train"].batch(range(6))
    for row, length in zip(batch["features"], batch["lengths"].tolist(), strict=True):
        assert row[:length].any()
        assert not row[length:].any()


def test_stored_integers_are_normalised_as_served(ask_commands: Ask) -> None:
    folder = prepare_dataset(ask_commands(features="waveform")).folder
    split = open_dataset(folder, normalize=True)["train"]
    assert split.sealed.columns.dtype == "int16"
    everything = split.batch(range(len(split)))["features"]
    assert abs(float(everything.mean())) < 1e-3
    assert abs(float(everything.std()) - 1) < 1e-2


def test_tokens_have_no_mean(digits_dataset: Path) -> None:
    with pytest.raises(DatasetError, match="tokens have no mean to normalise by"):
        _ = open_dataset(digits_dataset, normalize=True)["train"]


def keys_of(loader: Any) -> list[list[str]]:
    return [batch["key"] for batch in loader]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("drop_last", [False, True])
def test_every_example_once_per_epoch(digits_dataset: Path, workers: int, drop_last: bool) -> None:
    split = open_dataset(digits_dataset, key=True)["test"]
    loader = make_loader(split, 32, shuffle=True, drop_last=drop_last, num_workers=workers)
    batches = keys_of(loader)
    assert len(batches) == len(loader) == (3 if drop_last else 4)
    seen = [key for batch in batches for key in batch]
    assert len(set(seen)) == len(seen) == (96 if drop_last else 100)


def test_the_order_is_a_function_of_seed_and_epoch(digits_dataset: Path) -> None:
    split = open_dataset(digits_dataset, key=True)["test"]

    def loader(**options: Any) -> Any:
        return make_loader(split, 32, **({"shuffle": True, "seed": 1} | options))

    one = loader()
    first, second = keys_of(one), keys_of(one)
    assert first != second
    assert keys_of(loader()) == first
    assert keys_of(loader(num_workers=2)) == first
    assert keys_of(loader(seed=2)) != first
    one.set_epoch(1)
    assert keys_of(one) == second
    plain = keys_of(loader(shuffle=False))
    assert plain == keys_of(loader(shuffle=False)) != first
    assert [k for batch in plain for k in batch] == [key for key, _ in stored(split)]


def test_the_epoch_begins_with_iter(digits_dataset: Path) -> None:
    split = open_dataset(digits_dataset, key=True)["test"]
    loader = make_loader(split, 32, shuffle=True)
    first, second = keys_of(loader), keys_of(loader)
    loader.set_epoch(0)
    a, b = iter(loader), iter(loader)
    assert next(b)["key"] == second[0]
    assert next(a)["key"] == first[0]


def test_spawned_workers_open_the_files_themselves(digits_dataset: Path) -> None:
    split = open_dataset(digits_dataset, key=True)["test"]
    _ = split[0]
    assert len(pickle.dumps(split)) < 5000
    spawned = torch.utils.data.DataLoader(
        split, batch_size=40, num_workers=1, multiprocessing_context="spawn"
    )
    keys = [key for key, _ in stored(split)]
    assert keys_of(spawned) == [keys[:40], keys[40:80], keys[80:]]


def test_torchs_own_loader_and_subset_take_a_split(digits_dataset: Path) -> None:
    split = open_dataset(digits_dataset, key=True)["test"]
    plain = next(iter(torch.utils.data.DataLoader(split, batch_size=4)))
    ours = split.batch(range(4))
    assert set(plain) == set(ours)
    for name in ("features", "lengths", "sum"):
        assert torch.equal(plain[name], ours[name])
    part = torch.utils.data.Subset(split, [7, 3])
    assert [item["key"] for item in part.__getitems__([0, 1])] == split.batch([7, 3])["key"]


def test_indices_count_from_the_end_or_are_refused(phrases_dataset: Path) -> None:
    split = open_dataset(phrases_dataset, key=True)["train"]
    assert split.batch([-1, 0])["key"] == [split[5]["key"], split[0]["key"]]
    for bad in ([6], [0, -7]):
        with pytest.raises(IndexError, match="there are 6 examples"):
            split.batch(bad)
    assert split.batch([])["features"].shape == (0, 0, 40)


def test_a_missing_split_has_a_default(digits_dataset: Path) -> None:
    data = open_dataset(digits_dataset)
    assert data.get("noise") is None
    assert len(data.get("test")) == 100


def test_batch_size_below_one_is_refused(digits_dataset: Path) -> None:
    with pytest.raises(UsageError, match="batch_size=0"):
        make_loader(open_dataset(digits_dataset)["test"], 0)
