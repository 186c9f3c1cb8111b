"""Loading: items view the map, batches are padded, the order is a function of (seed, epoch)."""

import json
import math
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import DatasetError, UnknownNameError, UsageError
from pipeline.loader import Split, gather, make_loader, open_dataset
from pipeline.prepare import Request, prepare_dataset
from pipeline.shard import read_shard
from tests.sealed import write_sealed

Ask = Callable[..., Request]


@pytest.fixture
def phrases(ask_phrases: Ask) -> Path:
    return prepare_dataset(ask_phrases()).folder


def stored(split: Split) -> list[tuple[str, np.ndarray]]:
    """(key, features) straight from the shards."""
    sealed = split.sealed
    shards = [
        read_shard(sealed.folder / f"{info.shard}.arrow", sealed.columns)
        for info in sealed.splits[split.name]
    ]
    return [(s.keys[i].as_py(), s.features(i)) for s in shards for i in range(len(s))]


def test_items_are_what_is_stored(phrases: Path) -> None:
    split = open_dataset(phrases, key=True)["train"]
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


def test_batches_are_padded_with_zeros(phrases: Path) -> None:
    split = open_dataset(phrases, key=True)["train"]
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


def test_normalising_gives_zero_mean_and_unit_variance(phrases: Path) -> None:
    split = open_dataset(phrases, normalize=True)["train"]
    everything = torch.cat([split[i]["features"] for i in range(len(split))])
    torch.testing.assert_close(everything.mean(0), torch.zeros(40), atol=1e-4, rtol=0)
    torch.testing.assert_close(everything.std(0), torch.ones(40), atol=1e-3, rtol=0)
    batch = split.batch([0, 1])
    assert torch.equal(batch["features"][1, : batch["lengths"][1]], split[1]["features"])


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


def test_indices_count_from_the_end_or_are_refused(phrases: Path) -> None:
    split = open_dataset(phrases, key=True)["train"]
    assert split.batch([-1, 0])["key"] == [split[5]["key"], split[0]["key"]]
    for bad in ([6], [0, -7]):
        with pytest.raises(IndexError, match="there are 6 examples"):
            split.batch(bad)
    assert split.batch([])["features"].shape == (0, 0, 40)


def test_the_epoch_begins_with_iter(digits_dataset: Path) -> None:
    split = open_dataset(digits_dataset, key=True)["test"]
    loader = make_loader(split, 32, shuffle=True)
    first, second = keys_of(loader), keys_of(loader)
    loader.set_epoch(0)
    a, b = iter(loader), iter(loader)
    assert next(b)["key"] == second[0]
    assert next(a)["key"] == first[0]


def test_a_missing_split_has_a_default(digits_dataset: Path) -> None:
    data = open_dataset(digits_dataset)
    assert data.get("noise") is None
    assert len(data.get("test")) == 100


def test_batch_size_below_one_is_refused(digits_dataset: Path) -> None:
    with pytest.raises(UsageError, match="batch_size=0"):
        make_loader(open_dataset(digits_dataset)["test"], 0)


def test_a_shard_swapped_for_another_is_found(phrases: Path) -> None:
    data = open_dataset(phrases)
    path = next(phrases.glob("train-*.arrow"))
    path.write_bytes(next(phrases.glob("test-*.arrow")).read_bytes())
    with pytest.raises(DatasetError, match="expected 6 rows, got 4"):
        _ = data["train"][0]


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


def test_lengths_are_a_column(phrases: Path) -> None:
    split = open_dataset(phrases)["train"]
    lengths = split.column("lengths")
    assert lengths.tolist() == [len(features) for _, features in stored(split)]
    assert split.column("text").tolist() == split.batch(range(len(split)))["text"]
    assert split.column("key").tolist() == [key for key, _ in stored(split)]
    with pytest.raises(UnknownNameError, match="expected one of key, lengths"):
        split.column("words")


def test_slices_and_filters_are_splits(digits_dataset: Path, phrases: Path) -> None:
    split = open_dataset(digits_dataset, key=True)["train"]
    keys = split.column("key").tolist()
    assert split[10:20].column("key").tolist() == keys[10:20]
    assert split[::-7].batch(range(3))["key"] == keys[::-7][:3]
    assert split[5:50][2:4][1]["key"] == keys[8]
    few = split.filter("sum", [3, 4])
    assert set(few.column("sum").tolist()) == {3, 4}
    assert len(few) == int(np.isin(split.column("sum"), [3, 4]).sum())
    assert few.filter("key", [few[1]["key"]])[0]["sum"] == few[1]["sum"]
    texts = open_dataset(phrases)["train"]
    short = texts.filter("lengths", lambda n: n <= np.median(n))
    assert 0 < len(short) < len(texts)
    assert short.column("lengths").max() <= np.median(texts.column("lengths"))
    with pytest.raises(UsageError, match=r"filter by lengths: expected 300 bools, got int64"):
        split.filter("lengths", lambda n: n)
    for column, keep in (("key", "abc"), ("key", [3]), ("lengths", ["a"]), ("lengths", [1.5])):
        with pytest.raises(UsageError, match=f"filter by {column}: expected a list of"):
            split.filter(column, keep)


def test_classes_are_filtered_by_name(ask_commands: Ask) -> None:
    split = open_dataset(prepare_dataset(ask_commands()).folder)["train"]
    names = split.classes["word"]
    part = split.filter("word", [names[1]])
    assert part.column("word").tolist() == [1] * len(part)
    assert len(split.filter("word", [1])) == len(part) > 0
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


@pytest.fixture(params=["c", "numpy"])
def gathering(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr("pipeline.loader.gather._library", lambda: None)
    elif gather._library() is None:
        pytest.skip("gather.c is not compiled here")


@pytest.mark.usefixtures("gathering")
@pytest.mark.parametrize("shards", [1, 3, 40])
def test_batches_from_any_number_of_shards(tmp_path: Path, shards: int) -> None:
    """Both ways of gathering, against the rows that were written; shards may even be empty."""
    rng = np.random.default_rng(0)
    fixed = [rng.standard_normal((5, 40), np.float32) for _ in range(30)]
    open_length = [rng.standard_normal((n, 80), np.float32) for n in rng.integers(0, 20, 30)]
    for rows, name in ((fixed, "fixed"), (open_length, "open")):
        folder = write_sealed(tmp_path / name, rows, shards, name == "fixed")
        split = open_dataset(folder, key=True)["train"]
        for wanted in ([29, 0, 17, 0], np.arange(30)[::-3], np.array([3], np.int32), [-1]):
            batch = split.batch(wanted)
            expected = [rows[i] for i in np.asarray(wanted)]
            assert batch["lengths"].tolist() == [len(row) for row in expected]
            assert batch["speaker"].tolist() == [i % 30 for i in np.asarray(wanted)]
            assert batch["word"].tolist() == [i % 30 % 35 for i in np.asarray(wanted)]
            assert batch["key"] == [f"{i % 30:08d}" for i in np.asarray(wanted)]
            for got, row in zip(batch["features"], expected, strict=True):
                np.testing.assert_array_equal(got[: len(row)], row)
                assert not got[len(row) :].any()
        for outside in (np.array([0, 30]), np.array([-31])):
            with pytest.raises(IndexError, match="there are 30 examples"):
                split.batch(outside)


@pytest.mark.usefixtures("gathering")
@pytest.mark.parametrize("shape", [(), (40,), (80,)])
def test_batches_that_no_cache_holds(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """Over 1 MiB, where rows are copied past the caches: any length, any place in a line."""
    frames = 40_000 // math.prod(shape)
    lengths = [*np.random.default_rng(0).integers(0, frames, 20).tolist(), 0, 1, frames]
    rows = [np.full((n, *shape), i + 1, np.float32) for i, n in enumerate(lengths)]
    for i, row in enumerate(rows):
        row += np.arange(row.size, dtype=np.float32).reshape(row.shape) / 65536 * (i + 1)
    split = open_dataset(write_sealed(tmp_path / "open", rows, 2, False))["train"]
    for first in range(9):  # so that the same rows begin elsewhere in their lines
        wanted = np.roll(np.arange(len(rows)), first)
        batch = split.batch(wanted)
        assert batch["features"].nbytes > 1 << 20
        for got, i in zip(batch["features"], wanted, strict=True):
            np.testing.assert_array_equal(got[: len(rows[i])], rows[i])
            assert not got[len(rows[i]) :].any()


def test_a_thousand_shards_need_no_file_descriptors(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    rows = [np.full((1, 40), i, np.float32) for i in range(300)]
    folder = write_sealed(tmp_path / "many", rows, 300, True)
    split = open_dataset(folder)["train"]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 30, limits[1]))
    try:
        batch = split.batch(np.arange(300))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert batch["features"][:, 0, 0].tolist() == list(range(300))


def test_a_hugging_face_dataset_views_the_shards(phrases: Path, ask_commands: Ask) -> None:
    split = open_dataset(phrases, key=True)["train"]
    theirs = split.to_hf()
    assert set(theirs.column_names) == {"key", "text", "normalized_text", "tokens", "features"}
    assert set(open_dataset(phrases, labels=[])["train"].to_hf().column_names) == {"features"}
    with pytest.raises(UsageError, match="to_hf gives features as stored"):
        open_dataset(phrases, normalize=True)["train"].to_hf()
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


def test_damaged_offsets_are_found_before_they_are_used(phrases: Path) -> None:
    """A length that leads out of the file would be read from somebody else's memory."""
    split = open_dataset(phrases)["train"]
    path = next(phrases.glob("train-*.arrow"))
    offsets = read_shard(path, split.sealed.columns).offsets
    assert offsets is not None
    data = path.read_bytes()
    at = data.index(offsets.tobytes())
    bad = offsets.copy()
    bad[-1] += 1000
    path.write_bytes(data[:at] + bad.tobytes() + data[at + bad.nbytes :])
    with pytest.raises(DatasetError, match="damaged"):
        open_dataset(phrases)["train"].batch([0])


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


def test_identity_is_of_the_examples_and_their_order(digits_dataset: Path, phrases: Path) -> None:
    data = open_dataset(digits_dataset)
    train = data["train"]
    parts = [train, train[:299], train[::-1], train.select([1, 2]), train.select([2, 1])]
    parts += [data["test"], open_dataset(phrases)["train"]]
    assert len({part.identity for part in parts}) == len(parts)
    assert open_dataset(digits_dataset)["train"].identity == train.identity
    loader = make_loader(train[:200], 10)
    with pytest.raises(UsageError, match=r"data=.*: the state was saved with data="):
        loader.load_state_dict(make_loader(train[100:], 10).state_dict())


def test_many_threads_may_read_a_split(tmp_path: Path) -> None:
    rows = [np.full((1, 40), i, np.float32) for i in range(200)]
    folder = write_sealed(tmp_path / "many", rows, 100, True)

    for _ in range(5):
        split = open_dataset(folder)["train"]

        def read(seed: int, split: Split = split) -> None:
            order = np.random.default_rng(seed).permutation(200)
            assert split.batch(order)["features"][:, 0, 0].tolist() == order.tolist()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(read, range(8)))


def test_large_batches_are_copied_by_many_threads(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [rng.standard_normal((n, 80), np.float32) for n in rng.integers(100, 900, 60)]
    split = open_dataset(write_sealed(tmp_path / "long", rows, 7, False))["train"]
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(5)
        batch = split.batch(np.arange(59, -1, -1))
    finally:
        torch.set_num_threads(threads)
    for got, row in zip(batch["features"], reversed(rows), strict=True):
        np.testing.assert_array_equal(got[: len(row)], row)
        assert not got[len(row) :].any()


def test_zeros_stand_behind_normalised_examples(phrases: Path) -> None:
    batch = open_dataset(phrases, normalize=True)["train"].batch(range(6))
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


@pytest.mark.parametrize("first", [-1, 5])
def test_offsets_that_lead_outside_are_refused(phrases: Path, first: int) -> None:
    split = open_dataset(phrases)["train"]
    path = next(phrases.glob("train-*.arrow"))
    offsets = read_shard(path, split.sealed.columns).offsets
    assert offsets is not None
    data = path.read_bytes()
    at = data.index(offsets.tobytes())
    bad = offsets.copy()
    bad[1 if first > 0 else 0] = bad[2] + 1 if first > 0 else first
    path.write_bytes(data[:at] + bad.tobytes() + data[at + bad.nbytes :])
    with pytest.raises(DatasetError, match=r"damaged|Negative offsets"):
        open_dataset(phrases)["train"].batch([0])


def test_one_bad_batch_is_not_the_end(tmp_path: Path) -> None:
    rows = [np.full((1, 40), i, np.float32) for i in range(100)]
    folder = write_sealed(tmp_path / "ten", rows, 10, True)
    data = open_dataset(folder)
    path = folder / "train-00004-of-00010.arrow"
    path.write_bytes(b"x" * path.stat().st_size)
    for workers in (0, 2):
        batches, served = iter(make_loader(data["train"], 10, num_workers=workers)), 0
        for _ in range(9):
            try:
                served += len(next(batches)["features"])
            except DatasetError as error:
                assert "train-00004" in str(error)  # noqa: PT017
                assert "\n" not in str(error)  # noqa: PT017
                served += len(next(batches)["features"])
        assert served == 90
        assert next(batches, None) is None
