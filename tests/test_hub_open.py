"""What was published, read where it lies: streamed, opened, verified, and without the Hub."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset import open_sealed
from pipeline.prepare import prepare_dataset
from pipeline.shard import read_shard
from tests.hub_client import Ask, Client, Done, ok, only_line, slow
from tests.sealed import write_sealed


@slow
def test_streaming_reads_ranges(client: Client, ask_commands: Ask) -> None:
    folder = Path(prepare_dataset(ask_commands()).folder)
    ok(client.publish(folder, "me/data", "--i-may-redistribute"))
    client.hub.asked.clear()
    code = """
import json
import datasets
rows = datasets.load_dataset("me/data", split="test", streaming=True)
print(json.dumps([row["key"] for row in rows]))
"""
    keys = client.python(code)
    shard = read_shard(folder / "test-00000-of-00001.arrow", open_sealed(folder).columns)
    assert keys == shard.keys.to_pylist()
    parts = [asked for asked in client.hub.asked if asked[1].endswith(".parquet")]
    assert parts
    assert all(asked[2] for asked in parts if asked[0] == "GET")
    assert not [asked for asked in parts if "train" in asked[1] and asked[0] == "GET"]


@slow
def test_a_stream_of_what_was_published_is_a_stream(client: Client, tmp_path: Path) -> None:
    """Any workers, resumed, in a cache that can't hold all of it: the batches of the shards."""
    rows = [np.full((3, 40), n, np.float32) for n in range(60)]
    folder = write_sealed(tmp_path / "data", rows, 12, True)
    ok(client.publish(folder, "me/data", "--i-may-redistribute"))
    most = 8 * max(info.bytes for info in open_sealed(folder).splits["train"])
    client.hub.asked.clear()
    own = tmp_path / "own"
    code = f"""
import itertools, json
from pathlib import Path
from pipeline import stream

def loader(where, workers=0):
    return stream(
        where, "train", 7, True, 3, key=True, num_workers=workers,
        cache={str(own)!r}, cache_bytes={most},
    )

def epoch(loader):
    return [[batch["key"], batch["features"].sum().item()] for batch in loader]

hub = "hf://datasets/me/data@main:mfcc"
wanted = epoch(loader({str(folder)!r}))
same = [epoch(loader(hub)) == wanted, epoch(loader(hub, 2)) == wanted]
held = sum(path.stat().st_size for path in Path({str(own)!r}).glob("streamed/*.arrow"))
first, again = loader(hub), loader(hub)
begun = list(itertools.islice(first, 4))
again.load_state_dict(first.state_dict())
print(json.dumps([*same, epoch(again) == wanted[4:], held, len(wanted)]))
"""
    *same, held, batches = client.python(code, token=None)
    assert same == [True] * 3
    assert batches == 9
    assert 0 < held <= most
    assert not list(own.glob("streamed/.*.part"))
    stored = "hf://datasets/me/data/mfcc"  # a folder of the repository: shards as they were sealed
    code = f"from pipeline import stream; stream({stored!r}, 'train', 7)"
    assert "the shard is missing" in client.run("-c", code).stderr


@slow
def test_open_dataset_trains_from_a_hub(client: Client, digits_dataset: Path) -> None:
    ok(client.publish(digits_dataset, "me/data", "--tag", "v1"))
    code = """
import json
from pipeline import make_loader, open_dataset
data = open_dataset(WHERE, cache=CACHE)
sums = [batch["sum"].sum().item() for batch in make_loader(data["train"], 64)]
print(json.dumps([sum(sums), str(data.sealed.folder)]))
"""
    commit = client.hub.repos["me/data"].branches["main"]

    def opened(revision: str, **how: Any) -> Any:
        own = client.home / "own"
        head = f"WHERE, CACHE = 'hf://datasets/me/data@{revision}:tokens', {str(own)!r}\n"
        return client.python(head + code, **how)

    total, folder = opened("v1")
    assert total == 300 * 9
    assert Path(folder).is_relative_to(client.home / "own" / "hub" / "me" / "data")
    client.hub.asked.clear()
    assert opened("v1") == opened(commit) == [total, folder]
    assert not client.hub.count(r"\.parquet")
    client.hub.asked.clear()
    assert opened(commit) == [total, folder]
    assert not client.hub.asked  # a commit never changes
    assert opened("v1", HF_HUB_OFFLINE="1") == [total, folder]
    client.hub.faults = [("GET /api/datasets", 0)] * 9
    assert opened("v1") == [total, folder]
    client.hub.faults.clear()
    head = "WHERE, CACHE = 'hf://datasets/me/data@v1', None\n"
    refused = client.run("-c", head + code, HF_HUB_OFFLINE="1")
    assert "UnreachableError" in refused.stderr  # never opened by that name


@slow
def test_a_stream_whose_shards_are_here_needs_no_hub(client: Client, digits_dataset: Path) -> None:
    ok(client.publish(digits_dataset, "me/data"))
    hub, own = client.hub, client.home / "own"
    code = """
import json
from pipeline import stream
print(json.dumps(sum(batch["sum"].sum().item() for batch in stream(WHERE, SPLIT, 64, cache=CACHE))))
"""

    def run(revision: str, split: str = "train", **how: Any) -> Done:
        names = {"WHERE": f"hf://datasets/me/data@{revision}", "SPLIT": split, "CACHE": str(own)}
        head = "".join(f"{name} = {value!r}\n" for name, value in names.items())
        return client.run("-c", head + code, **how)

    def total(revision: str, **how: Any) -> Any:
        return json.loads(ok(run(revision, **how)).stdout)

    commit = hub.repos["me/data"].branches["main"]
    assert "UnreachableError" in run(commit, HF_HUB_OFFLINE="1").stderr  # never found
    assert total("main") == total(commit) == 300 * 9
    hub.asked.clear()
    assert total(commit) == 300 * 9
    assert not hub.asked  # a commit never changes
    assert total("main", HF_HUB_OFFLINE="1") == 300 * 9
    assert "opened what was found there last" in run("main", HF_HUB_OFFLINE="1").stderr
    assert "UnreachableError" in run(commit, "test", HF_HUB_OFFLINE="1").stderr  # not fetched
    for note in own.glob("hub/me/data/.*.json"):
        note.write_text(note.read_text().replace("content", "contents"))
    assert "UnreachableError" in run(commit, HF_HUB_OFFLINE="1").stderr  # of a damaged note
    assert total(commit) == 300 * 9


@slow
def test_verify_reads_what_is_on_the_hub(client: Client, digits_dataset: Path) -> None:
    ok(client.publish(digits_dataset, "me/data"))
    where = "hf://datasets/me/data"
    done = ok(client.shardwell("verify", where, token=None))
    assert done.stdout.startswith("all is well: train 300")
    hub, path = client.hub, "tokens/test-00000-of-00001.parquet"
    hub.put("me/data", path, hub.read("me/data", path)[::-1])
    told = only_line(client.shardwell("verify", where))
    assert f"{path}: expected sha256" in told
