"""Streams: every example once, the same batches whoever makes them, a cache within its bound."""

import json
import multiprocessing
import multiprocessing.pool
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch

from pipeline.dataset import open_sealed
from pipeline.errors import DatasetError, RemoteError, UnknownNameError, UsageError
from pipeline.loader import make_loader, open_dataset, stream
from pipeline.loader.stream_turns import GROUP
from pipeline.prepare import Request, prepare_dataset
from pipeline.remote import open_remote, upload
from tests.sealed import write_sealed
from tests.stores import Counted, counted_store

ROOT = Path(__file__).parent.parent
ROWS, SHARDS, BATCH = 200, 13, 7
FIFTH = 76  # the first row of the fifth shard


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 examples in 13 shards; row n holds n."""
    rows = [np.full((3, 40), n, np.float32) for n in range(ROWS)]
    return write_sealed(tmp_path_factory.mktemp("streamed") / "data", rows, SHARDS, True)


@pytest.fixture
def counted(folder: Path) -> Iterator[str]:
    """Its URL in a store that counts."""
    with counted_store(folder) as url:
        yield url


def shard_bytes(folder: Path) -> int:
    return max(shard.bytes for shard in open_sealed(folder).splits["train"])


def keys(loader: Any, count: int = 10**9) -> list[list[str]]:
    """The keys of the next batches."""
    return [batch["key"] for batch, _ in zip(iter(loader), range(count), strict=False)]


def flat(batches: list[list[Any]]) -> list[Any]:
    return [item for batch in batches for item in batch]


def eventually(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.01)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("protocol", ["", "file://", "counted://"])
def test_batches_are_those_of_the_split(
    folder: Path, counted: str, tmp_path: Path, protocol: str, shuffle: bool
) -> None:
    where = counted if protocol == "counted://" else f"{protocol}{folder}"
    loader = stream(where, "train", BATCH, shuffle, key=True, cache=tmp_path, labels=["speaker"])
    split = open_dataset(folder, key=True)["train"]
    seen = []
    for batch in loader:
        rows = batch["speaker"].numpy()
        expected = split.batch(rows)
        assert set(batch) == {"features", "lengths", "speaker", "key"}
        assert batch["key"] == expected["key"]
        assert torch.equal(batch["features"], expected["features"])
        seen += rows.tolist()
    assert len(loader) == -(-ROWS // BATCH)
    assert sorted(seen) == list(range(ROWS))
    assert (seen == list(range(ROWS))) == (not shuffle)


@pytest.mark.parametrize("features", ["mfcc", "waveform"])
def test_open_lengths_and_normalising(ask_commands: Any, features: str) -> None:
    request: Request = ask_commands(features=features, audio="duration=none")
    where = prepare_dataset(request).folder
    normalize = features == "mfcc"
    wanted = make_loader(open_dataset(where, normalize)["train"], 4)
    for batch, expected in zip(stream(where, "train", 4, normalize=normalize), wanted, strict=True):
        assert torch.equal(batch["features"], expected["features"])
        assert torch.equal(batch["lengths"], expected["lengths"])


def test_the_number_of_workers_changes_nothing(counted: str, tmp_path: Path) -> None:
    def epochs(workers: int, **more: Any) -> list[list[list[str]]]:
        cache = tmp_path / str(workers)
        loader = stream(
            counted, "train", BATCH, True, 3, num_workers=workers, key=True, cache=cache, **more
        )
        return [keys(loader), keys(loader)]

    alone = epochs(0)
    assert alone[0] != alone[1]
    assert epochs(1) == epochs(2) == alone
    ranks = [epochs(2, rank=r, world_size=3)[0] for r in range(3)]
    assert len({len(batches) for batches in ranks}) == 1
    assert set(flat(flat(ranks))) == set(flat(alone[0]))


@pytest.mark.slow
def test_spawned_workers_fetch_for_themselves(folder: Path, tmp_path: Path) -> None:
    def loader(workers: int) -> Any:
        where = f"file://{folder}"
        return stream(where, "train", BATCH, True, num_workers=workers, key=True, cache=tmp_path)

    spawned = loader(2)
    spawned.multiprocessing_context = "spawn"
    assert keys(spawned) == keys(loader(0))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 8, 28])
def test_a_stream_goes_on_exactly_where_it_was(folder: Path, workers: int, stop: int) -> None:
    def loader(num_workers: int = 0, **more: Any) -> Any:
        return stream(folder, "train", BATCH, True, 5, num_workers=num_workers, key=True, **more)

    undisturbed = loader()
    wanted = [*keys(undisturbed), *keys(undisturbed), *keys(undisturbed)]
    first = loader(workers)
    seen, batches = keys(first), iter(first)
    seen += [next(batches)["key"] for _ in range(stop)]
    state = json.loads(json.dumps(first.state_dict()))
    for num_workers in (0, 2):
        again = loader(num_workers)
        again.load_state_dict(state)
        rest = keys(again)
        again.load_state_dict(state)  # twice in a row
        assert keys(again) == rest
        assert [*seen, *rest, *keys(again)] == wanted
    with pytest.raises(UsageError, match="world_size=2: the state was saved with world_size=1"):
        loader(rank=0, world_size=2).load_state_dict(state)


STREAMING = """
import json, sys
from pipeline.loader import stream
where, cache, state = sys.argv[1:]
options = {{"num_workers": 2, "key": True, "cache": cache, "cache_bytes": {most}}}
loader = stream(where, "train", 7, True, 2, **options)
if state:
    loader.load_state_dict(json.loads(state))
for _ in range(3):
    for batch in loader:
        print(json.dumps([batch["key"], loader.state_dict()]), flush=True)
"""


def streaming(where: str, cache: Path, state: str, most: int = 1 << 30) -> subprocess.Popen[str]:
    """A process that prints every batch's keys and the state after it, for three epochs."""
    return subprocess.Popen(
        [sys.executable, "-c", STREAMING.format(most=most), where, str(cache), state],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_a_killed_stream_is_restored(folder: Path, tmp_path: Path) -> None:
    """``kill -9`` of all its processes, over and over, anywhere."""
    where, most = f"file://{folder}", 9 * shard_bytes(folder)
    undisturbed = stream(where, "train", 7, True, 2, key=True, cache=tmp_path / "other")
    wanted = [*keys(undisturbed), *keys(undisturbed), *keys(undisturbed)]
    seen: list[list[str]] = []
    state, luck = "", random.Random(0)
    while len(seen) < len(wanted):
        run = streaming(where, tmp_path / "cache", state, most)
        assert run.stdout
        for line in run.stdout:
            batch, place = json.loads(line)
            seen.append(batch)
            state = json.dumps(place)
            if luck.random() < 0.05 or len(seen) == len(wanted):
                break
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        run.stdout.close()
    assert seen == wanted


def taken(cache: Path) -> int:
    """Bytes of all that lies in the cache, but reservations, which take none."""
    total = 0
    for path in (cache / "streamed").glob("*"):
        if not path.name.endswith(".room.part"):
            try:
                total += path.stat().st_size
            except FileNotFoundError:
                continue
    return total


@pytest.mark.slow
def test_two_processes_keep_one_bound(folder: Path, tmp_path: Path) -> None:
    """Each with two workers, in a cache that is too small for what they want together."""
    most = 5 * shard_bytes(folder)
    runs = [streaming(f"file://{folder}", tmp_path, "", most) for _ in range(2)]
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
    assert 2 * shard_bytes(folder) < largest <= most


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
        self, folder: Path, counted: str, tmp_path: Path, shuffle: bool
    ) -> None:
        most = 2 * GROUP * shard_bytes(folder)
        loader = stream(counted, "train", BATCH, shuffle, cache=tmp_path, cache_bytes=most)
        assert sum(len(batch["lengths"]) for batch in loader) == ROWS
        assert len(Counted.fetched) == len(set(Counted.fetched)) == SHARDS

    def test_the_bound_holds_after_every_batch(
        self, folder: Path, counted: str, tmp_path: Path
    ) -> None:
        for shards in (1, 3, 6):
            most = shards * shard_bytes(folder)
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


class TestFolder:
    def test_a_folder_needs_no_cache(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pipeline.loader.streams.CACHE", tmp_path / "cache")
        before = sorted(folder.iterdir())
        assert len(flat(keys(stream(folder, "train", BATCH, True, key=True)))) == ROWS
        assert list(tmp_path.iterdir()) == []
        assert sorted(folder.iterdir()) == before

    @pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no list of maps")
    def test_shards_that_are_passed_are_unmapped(self, folder: Path) -> None:
        most = 0
        for _ in stream(folder, "train", BATCH, True):
            maps = Path("/proc/self/maps").read_text()
            most = max(most, sum(f"{folder}/train-" in line for line in maps.splitlines()))
        assert GROUP <= most <= 2 * GROUP


class TestErrors:
    def test_a_missing_or_truncated_shard_is_found_at_open(self, counted: str) -> None:
        store, path = fsspec.core.url_to_fs(f"{counted}/train-00004-of-00013.arrow")
        data = store.cat_file(path)
        store.pipe_file(path, data[:-5])
        with pytest.raises(DatasetError, match=r"train-00004-of-00013.arrow: expected .* bytes, g"):
            stream(counted, "train", BATCH)
        store.rm_file(path)
        with pytest.raises(DatasetError, match=r"train-00004-of-00013.arrow: the shard is missing"):
            stream(counted, "train", BATCH)

    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize(
        ("harm", "error", "message"),
        [
            ("flipped", DatasetError, "train-00005-of-00013.arrow: expected sha256 .*, got"),
            ("truncated", DatasetError, "train-00005-of-00013.arrow: expected .* bytes, got"),
            ("missing", DatasetError, "train-00005-of-00013.arrow: the shard is missing"),
            ("lost", RemoteError, "train-00005-of-00013.arrow: connection lost"),
        ],
    )
    def test_the_batch_that_needs_a_bad_shard_says_so(
        self,
        counted: str,
        tmp_path: Path,
        workers: int,
        harm: str,
        error: type[Exception],
        message: str,
    ) -> None:
        """It is fetched ahead; the batches before it are served, and after mending all the rest."""
        loader = stream(counted, "train", BATCH, key=True, cache=tmp_path, num_workers=workers)
        store, path = fsspec.core.url_to_fs(f"{counted}/train-00005-of-00013.arrow")
        good = store.cat_file(path)
        store.pipe_file(path, {"flipped": good[:-1] + b"?", "truncated": good[:-1]}.get(harm, good))
        if harm == "missing":
            store.rm_file(path)
        if harm == "lost":
            Counted.breaks.add("train-00005-of-00013")
        with pytest.raises(error, match=message) as caught:
            list(loader)
        assert "\n" not in str(caught.value)
        served = loader.state_dict()["batch"]
        assert served == FIFTH // BATCH
        left = {path.suffix for path in (tmp_path / "streamed").glob("*train-00005*")}
        # A worker is ended in the midst of what it fetches ahead.
        assert left <= ({".lock", ".part"} if workers else {".lock"})
        Counted.breaks.clear()
        store.pipe_file(path, good)
        loader.load_state_dict(loader.state_dict())
        rest = flat(keys(loader))
        assert rest == [f"{n:08d}" for n in range(served * BATCH, ROWS)]

    def test_a_cache_that_can_not_be_written_is_one_line(
        self, counted: str, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(RemoteError, match=r"can't keep .* bytes of train-00000-of-00013 here"):
            next(iter(stream(counted, "train", BATCH, cache=tmp_path / "file")))

    def test_a_full_disk_is_one_line_and_leaves_nothing(self, folder: Path, tmp_path: Path) -> None:
        """A limit on the size of files fails as a full disk does, in the middle of writing."""
        resource = pytest.importorskip("resource")
        code = (
            "import resource, sys; from pipeline.loader import stream\n"
            "loader = stream(sys.argv[1], 'train', 7, cache=sys.argv[2])\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
            "try: next(iter(loader))\n"
            "except Exception as error: print(type(error).__name__, error)\n"
        )
        assert resource
        command = [sys.executable, "-c", code, f"file://{folder}", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        (line,) = done.stdout.splitlines()
        assert line.startswith(f"RemoteError {tmp_path}/streamed: can't keep ")
        assert "choose another folder with cache=" in line
        assert not list(tmp_path.rglob("*.arrow")) + list(tmp_path.rglob("*.part"))

    def test_wrong_arguments_are_told(self, folder: Path, counted: str, tmp_path: Path) -> None:
        cases: list[tuple[dict[str, Any], type[Exception], str]] = [
            ({"split": "dev"}, UnknownNameError, "unknown split of .* 'dev'"),
            ({"labels": ["words"]}, UnknownNameError, "unknown label of .* 'words'"),
            ({"batch_size": 0}, UsageError, "batch_size=0: expected a whole number, at least 1"),
            ({"seed": -1}, UsageError, "seed=-1: expected 0 to"),
            ({"rank": 1}, UsageError, "rank=1, world_size=None: expected both or neither"),
            ({"rank": 0, "world_size": 14}, UsageError, "world_size=14: expected at most 13"),
            ({"cache_bytes": 100}, UsageError, "cache_bytes=100: expected at least .*, one shard"),
        ]
        for changes, error, message in cases:
            with pytest.raises(error, match=message):
                stream(**({"where": counted, "split": "train", "batch_size": 7} | changes))
        with pytest.raises(DatasetError, match="expected a sealed dataset"):
            stream(tmp_path, "train", 7)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_from_s3(folder: Path, bucket: str, tmp_path: Path, workers: int) -> None:
    for file in folder.iterdir():
        upload(file, f"{bucket}/data/{file.name}")

    def loader(where: str | Path, num_workers: int = 0) -> Any:
        return stream(
            where, "train", BATCH, True, num_workers=num_workers, key=True, cache=tmp_path
        )

    assert keys(loader(f"{bucket}/data/", workers)) == keys(loader(folder))
    with pytest.raises(DatasetError, match="expected a sealed dataset with"):
        loader(f"{bucket}/none")
