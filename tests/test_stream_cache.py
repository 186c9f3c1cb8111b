"""What a stream keeps: what it needs and no more, in a cache within its bound."""

import json
import multiprocessing
import multiprocessing.pool
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.loader import stream
from pipeline.loader.stream_turns import GROUP
from pipeline.remote import open_remote
from tests.stores import Counted
from tests.streams import BATCH, ROWS, SHARDS, flat, keys, shard_bytes, streaming, taken


def eventually(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.01)


class TestCache:
    def test_only_what_is_needed_is_fetched_and_once(self, counted: str, tmp_path: Path) -> None:
        loaders = [
            stream(counted, "train", BATCH, rank=rank, world_size=3, cache=tmp_path, num_workers=0)
            for rank in range(3)
        ]
        assert Counted.fetched == []
        assert not (tmp_path / "streamed").exists()
        assert sum(1 for _ in loaders[1]) == len(loaders[1])
        names = [shard.shard for shard in open_remote(counted).splits["train"]]
        assert sorted(Counted.fetched) == names[1::3]
        keys_of_rest = [sum(1 for _ in loader) for loader in loaders]
        assert len(set(keys_of_rest)) == 1
        assert sorted(Counted.fetched) == names

    def test_the_next_shards_come_before_they_are_asked_for(
        self, counted: str, tmp_path: Path
    ) -> None:
        batches = iter(stream(counted, "train", 1, cache=tmp_path))
        next(batches)
        eventually(lambda: len(list((tmp_path / "streamed").glob("*.arrow"))) == 2 * GROUP)
        time.sleep(0.1)
        names = [shard.shard for shard in open_remote(counted).splits["train"]]
        assert sorted(Counted.fetched) == names[: 2 * GROUP]

    @pytest.mark.parametrize("shuffle", [False, True])
    def test_with_room_for_two_groups_nothing_is_fetched_twice(
        self, numbered_dataset: Path, counted: str, tmp_path: Path, shuffle: bool
    ) -> None:
        most = 2 * GROUP * shard_bytes(numbered_dataset)
        loader = stream(counted, "train", BATCH, shuffle, cache=tmp_path, cache_bytes=most)
        assert sum(len(batch["lengths"]) for batch in loader) == ROWS
        assert len(Counted.fetched) == len(set(Counted.fetched)) == SHARDS

    def test_the_bound_holds_after_every_batch(
        self, numbered_dataset: Path, counted: str, tmp_path: Path
    ) -> None:
        for shards in (1, 3, 6):
            most = shards * shard_bytes(numbered_dataset)
            loader = stream(counted, "train", BATCH, True, cache=tmp_path, cache_bytes=most)
            total = 0
            for batch in loader:
                total += len(batch["lengths"])
                assert taken(tmp_path) <= most
            assert total == ROWS

    def test_a_file_of_another_size_is_fetched_again(self, counted: str, tmp_path: Path) -> None:
        list(stream(counted, "train", BATCH, cache=tmp_path))
        whole = next((tmp_path / "streamed").glob("train-00002*.arrow"))
        data = whole.read_bytes()
        whole.write_bytes(data[:-1])
        list(stream(counted, "train", BATCH, cache=tmp_path))
        assert whole.read_bytes() == data
        assert Counted.fetched.count("train-00002-of-00013") == 2

    def test_a_forked_process_has_threads_of_its_own(self, counted: str, tmp_path: Path) -> None:
        loader = stream(counted, "train", BATCH, True, key=True, cache=tmp_path)
        wanted = keys(loader)
        loader.set_epoch(0)
        next(iter(loader))
        loader.set_epoch(0)
        with multiprocessing.get_context("fork").Pool(1) as pool:
            assert pool.apply_async(keys, (loader,)).get(60) == wanted


@pytest.mark.slow
def test_two_processes_keep_one_bound(numbered_dataset: Path, tmp_path: Path) -> None:
    """Each with two workers, in a cache that is too small for what they want together."""
    most = 5 * shard_bytes(numbered_dataset)
    runs = [streaming(f"file://{numbered_dataset}", tmp_path, "", most) for _ in range(2)]
    largest = 0
    with multiprocessing.pool.ThreadPool(2) as pool:
        results = [pool.apply_async(run.communicate) for run in runs]
        while not all(result.ready() for result in results):
            largest = max(largest, taken(tmp_path))
            time.sleep(0.001)
    lines = [[json.loads(line)[0] for line in result.get()[0].splitlines()] for result in results]
    assert [run.returncode for run in runs] == [0, 0]
    assert lines[0] == lines[1]
    assert len(flat(lines[0])) == 3 * ROWS
    assert 2 * shard_bytes(numbered_dataset) < largest <= most


class TestFolder:
    def test_a_folder_needs_no_cache(
        self, numbered_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pipeline.loader.streams.CACHE", tmp_path / "cache")
        before = sorted(numbered_dataset.iterdir())
        assert len(flat(keys(stream(numbered_dataset, "train", BATCH, True, key=True)))) == ROWS
        assert list(tmp_path.iterdir()) == []
        assert sorted(numbered_dataset.iterdir()) == before

    @pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no list of maps")
    def test_shards_that_are_passed_are_unmapped(self, numbered_dataset: Path) -> None:
        most = 0
        for _ in stream(numbered_dataset, "train", BATCH, True):
            maps = Path("/proc/self/maps").read_text()
            most = max(
                most, sum(f"{numbered_dataset}/train-" in line for line in maps.splitlines())
            )
        assert GROUP <= most <= 2 * GROUP
