"""Streams: every example once, the same batches whoever makes them, gone on with exactly."""

import json
import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import DatasetError, UsageError
from pipeline.loader import make_loader, open_dataset, stream
from pipeline.prepare import Request, prepare_dataset
from pipeline.remote import upload
from tests.streams import BATCH, ROWS, flat, keys, shard_bytes, streaming


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("protocol", ["", "file://", "counted://"])
def test_batches_are_those_of_the_split(
    numbered_dataset: Path, counted: str, tmp_path: Path, protocol: str, shuffle: bool
) -> None:
    where = counted if protocol == "counted://" else f"{protocol}{numbered_dataset}"
    loader = stream(where, "train", BATCH, shuffle, key=True, cache=tmp_path, labels=["speaker"])
    split = open_dataset(numbered_dataset, key=True)["train"]
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
def test_spawned_workers_fetch_for_themselves(numbered_dataset: Path, tmp_path: Path) -> None:
    def loader(workers: int) -> Any:
        where = f"file://{numbered_dataset}"
        return stream(where, "train", BATCH, True, num_workers=workers, key=True, cache=tmp_path)

    spawned = loader(2)
    spawned.multiprocessing_context = "spawn"
    assert keys(spawned) == keys(loader(0))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 8, 28])
def test_a_stream_goes_on_exactly_where_it_was(
    numbered_dataset: Path, workers: int, stop: int
) -> None:
    def loader(num_workers: int = 0, **more: Any) -> Any:
        return stream(
            numbered_dataset, "train", BATCH, True, 5, num_workers=num_workers, key=True, **more
        )

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


def test_a_stream_and_a_loader_refuse_each_other(numbered_dataset: Path) -> None:
    streamed = stream(numbered_dataset, "train", BATCH, True, 5)
    loader = make_loader(open_dataset(numbered_dataset)["train"], BATCH, True, 5)
    for one, other in ((streamed, loader), (loader, streamed)):
        with pytest.raises(UsageError, match="go on with what saved it: make_loader or stream"):
            one.load_state_dict(other.state_dict())


@pytest.mark.slow
def test_a_killed_stream_is_restored(numbered_dataset: Path, tmp_path: Path) -> None:
    """``kill -9`` of all its processes, over and over, anywhere."""
    where, most = f"file://{numbered_dataset}", 9 * shard_bytes(numbered_dataset)
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


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_from_s3(
    numbered_dataset: Path, bucket: str, tmp_path: Path, workers: int
) -> None:
    for file in numbered_dataset.iterdir():
        upload(file, f"{bucket}/data/{file.name}")

    def loader(where: str | Path, num_workers: int = 0) -> Any:
        return stream(
            where, "train", BATCH, True, num_workers=num_workers, key=True, cache=tmp_path
        )

    assert keys(loader(f"{bucket}/data/", workers)) == keys(loader(numbered_dataset))
    with pytest.raises(DatasetError, match="expected a sealed dataset with"):
        loader(f"{bucket}/none")
