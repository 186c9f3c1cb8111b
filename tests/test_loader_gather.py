"""Batches from many shards: gathered in C as in NumPy, by many threads; damage is found."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.errors import DatasetError
from pipeline.loader import Split, gather, make_loader, open_dataset
from pipeline.shard import read_shard
from tests.sealed import write_sealed


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


def test_a_shard_swapped_for_another_is_found(phrases_dataset: Path) -> None:
    data = open_dataset(phrases_dataset)
    path = next(phrases_dataset.glob("train-*.arrow"))
    path.write_bytes(next(phrases_dataset.glob("test-*.arrow")).read_bytes())
    with pytest.raises(DatasetError, match="expected 6 rows, got 4"):
        _ = data["train"][0]


def test_damaged_offsets_are_found_before_they_are_used(phrases_dataset: Path) -> None:
    """A length that leads out of the file would be read from somebody else's memory."""
    split = open_dataset(phrases_dataset)["train"]
    path = next(phrases_dataset.glob("train-*.arrow"))
    offsets = read_shard(path, split.sealed.columns).offsets
    assert offsets is not None
    data = path.read_bytes()
    at = data.index(offsets.tobytes())
    bad = offsets.copy()
    bad[-1] += 1000
    path.write_bytes(data[:at] + bad.tobytes() + data[at + bad.nbytes :])
    with pytest.raises(DatasetError, match="damaged"):
        open_dataset(phrases_dataset)["train"].batch([0])


@pytest.mark.parametrize("first", [-1, 5])
def test_offsets_that_lead_outside_are_refused(phrases_dataset: Path, first: int) -> None:
    split = open_dataset(phrases_dataset)["train"]
    path = next(phrases_dataset.glob("train-*.arrow"))
    offsets = read_shard(path, split.sealed.columns).offsets
    assert offsets is not None
    data = path.read_bytes()
    at = data.index(offsets.tobytes())
    bad = offsets.copy()
    bad[1 if first > 0 else 0] = bad[2] + 1 if first > 0 else first
    path.write_bytes(data[:at] + bad.tobytes() + data[at + bad.nbytes :])
    with pytest.raises(DatasetError, match=r"damaged|Negative offsets"):
        open_dataset(phrases_dataset)["train"].batch([0])


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
