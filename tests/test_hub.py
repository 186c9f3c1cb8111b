"""To a Hub on loopback and back, by the unmodified clients, in processes of their own."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset import NAME, open_sealed
from pipeline.errors import RemoteError, UsageError
from pipeline.features import Vector
from pipeline.hub import hub_errors
from pipeline.prepare import Request, prepare_dataset
from pipeline.publish.place import Place, is_on_hub, parse_place
from pipeline.shard import read_shard
from tests.conftest import real_data
from tests.hub import READER, TOKEN
from tests.hub_client import Ask, Client, Done, ok, only_line, published_files, same_folders, slow
from tests.sealed import Made, write_made, write_sealed

# --- places and errors, without a server ----------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("me/x", Place("me/x")),
        ("hf://datasets/me/x-1.0@v1.0:log_mel", Place("me/x-1.0", "v1.0", "log_mel")),
        ("me/x@refs/convert/parquet", Place("me/x", "refs/convert/parquet")),
        ("me/x:mfcc", Place("me/x", None, "mfcc")),
    ],
)
def test_places(text: str, place: Place) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize(
    "text", ["x", "me/../x", "me/x@", "me/x:../y", "/me/x", "me/x/y", "me/x@a/../b", "mé/x", ""]
)
def test_what_is_no_place(text: str) -> None:
    with pytest.raises(UsageError, match="expected user/name"):
        parse_place(text)


def test_other_urls_are_not_on_a_hub() -> None:
    assert is_on_hub("hf://datasets/me/x")
    assert is_on_hub("hf://datasets/me/x@refs/convert/parquet:mfcc")
    others = "s3://bucket/x", "me/x", "hf://models/me/x", "hf://datasets/me/x/folder"
    for where in (*others, Path("hf:/datasets/me/x")):
        assert not is_on_hub(where)


def test_no_error_shows_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(RemoteError) as caught, hub_errors("http://hub"):
        raise ValueError(f"Illegal header value\nb'Bearer {TOKEN}'")
    assert str(caught.value) == "http://hub: Illegal header value b'Bearer (token)'"
    assert caught.value.__suppress_context__


# --- there and back -------------------------------------------------------------------------------

VALUES = """
import hashlib, io, json, sys, warnings
import numpy as np
import datasets, soundfile

features, digests = None, {}
for split, rows in datasets.load_dataset(REPO, CONFIG, revision="main").items():
    features, digest = rows.features, hashlib.sha256()
    column = next(n for n in ("features", "audio", "image", "vector", "tokens") if n in features)
    if column == "audio":
        rows = rows.cast_column("audio", datasets.Audio(decode=False))
    plain = column in ("audio", "image", "vector")
    for row in rows if plain else rows.with_format("numpy"):
        value = row[column]
        if column == "audio":
            value = soundfile.read(io.BytesIO(value["bytes"]), dtype=DTYPE)[0]
        if column == "vector":
            value = np.array(value, DTYPE)  # refuses what does not fit
        digest.update(np.asarray(value).astype(DTYPE, casting="same_kind").tobytes())
        digest.update(str(row["key"]).encode())
    digests[split] = digest.hexdigest()
print(json.dumps(digests))
"""


def own_values(folder: Path) -> dict[str, str]:
    """What ``VALUES`` must find."""
    sealed, digests = open_sealed(folder), {}
    for split, shards in sealed.splits.items():
        digest = hashlib.sha256()
        for info in shards:
            shard = read_shard(folder / f"{info.shard}.arrow", sealed.columns)
            for row in range(len(shard)):
                digest.update(shard.features(row).tobytes())
                digest.update(shard.keys[row].as_py().encode())
        digests[split] = digest.hexdigest()
    return digests


def there_and_back(client: Client, folder: Path) -> None:
    """Publish, load by ``datasets``, publish again, pull: equal values, no commit, equal files.

    The page's snippets run as they stand.
    """
    sealed = open_sealed(folder)
    given = "--cache", client.home / "cache", "--i-may-redistribute"
    done = ok(client.publish(folder, "me/data", *given))
    assert "published: commit" in done.stdout
    names = {"REPO": "me/data", "CONFIG": sealed.feature.kind, "DTYPE": sealed.columns.dtype}
    head = "".join(f"{name} = {value!r}\n" for name, value in names.items())
    assert client.python(head + VALUES, token=None) == own_values(folder)
    page = client.hub.read("me/data", "README.md").decode()
    codes = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(codes) == 3
    # Threads of other libraries now and then abort an interpreter that ends: leave at once.
    leave = "import os\nos._exit(0)"
    ok(client.run("-c", "\n".join([*codes, leave]), token=None))
    repo, sent = client.hub.repos["me/data"], client.hub.count("PUT /lfs")
    before = len(repo.commits)
    assert "up to date: commit" in ok(client.publish(folder, "me/data", *given)).stdout
    assert (len(repo.commits), client.hub.count("PUT /lfs")) == (before, sent)
    pulled = ok(client.shardwell("pull", "me/data", "--out", client.home / "pulled", token=None))
    same_folders(folder, Path(pulled.stdout.splitlines()[-1]))


@slow
def test_digit_sum(client: Client, digits_dataset: Path) -> None:
    there_and_back(client, digits_dataset)


@slow
def test_vectors_and_characters(client: Client, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)

    def rows(split: str, count: int) -> list[tuple[str, dict[str, Any], np.ndarray[Any, Any]]]:
        return [
            (
                f"{split}/{n}",
                {"word": n % 2, "spelt": rng.integers(1, 5, n % 4).tolist()},
                rng.integers(0, 256, 20, np.uint8),
            )
            for n in range(count)
        ]

    made = Made(
        Vector(5, 4),
        {"word": "class", "spelt": "characters"},
        {"train": rows("train", 30), "test": rows("test", 7)},
        {"word": ["no", "yes"], "spelt": list(" ähn")},
        fixed=True,
        statistics=False,
    )
    there_and_back(client, write_made(tmp_path / "data", made))


@slow
@pytest.mark.parametrize("features", ["mfcc", "log_mel:dtype=float16", "waveform"])
def test_commands(client: Client, ask_commands: Ask, features: str) -> None:
    there_and_back(client, Path(prepare_dataset(ask_commands(features=features)).folder))


@slow
@pytest.mark.parametrize("features", ["log_mel", "waveform:dtype=float32"])
def test_phrases(client: Client, ask_phrases: Ask, features: str) -> None:
    there_and_back(client, Path(prepare_dataset(ask_phrases(features=features)).folder))


def real_requests() -> dict[str, dict[str, Any]]:
    """What is prepared from the recordings and images beside the project."""
    files, own = real_data(), Path(__file__).parent / "real"
    commands = {
        "recipe": "speech_commands",
        "manifest": own / "speech_commands.toml",
        "sources": {"v1": files / "speech_commands_v0.01_subset.tar.gz"},
    }
    phrases = {
        "recipe": "ljspeech",
        "manifest": own / "ljspeech.toml",
        "sources": {"archive": files / "LJSpeech-1.1_subset.tar.bz2"},
    }
    images = {
        f"{ours}-{what}": files / "mnist" / f"{theirs}-{what}-{kind}-ubyte.gz"
        for ours, theirs in (("train", "train"), ("test", "t10k"))
        for what, kind in (("images", "idx3"), ("labels", "idx1"))
    }
    return {
        "mnist": {"recipe": "mnist", "sources": images},
        "commands mfcc": commands | {"features": "mfcc"},
        "commands waveform": commands | {"features": "waveform"},
        "phrases log_mel": phrases | {"features": "log_mel"},
    }


@slow
@pytest.mark.real
@pytest.mark.parametrize("name", real_requests())
def test_real_data(name: str, client: Client, cache: Path, tmp_path: Path) -> None:
    request = Request(**real_requests()[name], out=tmp_path / "data", cache=cache, offline=True)
    there_and_back(client, Path(prepare_dataset(request).folder))


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


@slow
def test_several_datasets_are_configs_of_one_repository(client: Client, ask_commands: Ask) -> None:
    folders = [prepare_dataset(ask_commands(features=f)).folder for f in ("mfcc", "waveform")]
    given = "--i-may-redistribute", "--endpoint", client.hub.endpoint
    there = "me/data", *given
    ok(client.publish(*folders, *there, HF_ENDPOINT="http://127.0.0.1:9"))
    code = """
import datasets, json
names = datasets.get_dataset_config_names("me/data")
loaded = [datasets.load_dataset("me/data", n, revision="main")["train"].num_rows for n in names]
default = datasets.load_dataset("me/data", revision="main")["train"].column_names
print(json.dumps([names, loaded, default]))
"""
    names, rows, default = client.python(code)
    assert names == ["mfcc", "waveform"]
    assert rows == [9, 9]
    assert "features" in default
    told = only_line(client.shardwell("pull", "me/data"), 2)
    assert "holds the configs mfcc, waveform; take one: me/data:mfcc" in told
    pulled = ok(client.shardwell("pull", "me/data:waveform", "--out", client.home / "pulled"))
    same_folders(Path(folders[1]), Path(pulled.stdout.splitlines()[-1]))
    told = only_line(client.publish(folders[0], *there), 2)
    assert "holds the config waveform, too; publish all its datasets together" in told


@slow
def test_webdataset_is_published_loaded_and_brought_back(client: Client, ask_commands: Ask) -> None:
    folder = prepare_dataset(ask_commands(features="waveform")).folder
    ok(client.publish(folder, "me/tar", "--format", "webdataset", "--i-may-redistribute"))
    code = """
import datasets, json
rows = datasets.load_dataset("me/tar", revision="main")["test"]
print(json.dumps([rows.num_rows, rows[0]["json"]["key"], rows[0]["flac"][:4].decode()]))
"""
    rows, key, magic = client.python(code)
    assert (rows, magic) == (3, "fLaC")
    assert "_nohash_" in key
    assert 'open_dataset("hf://datasets/me/tar")' in client.hub.read("me/tar", "README.md").decode()
    pulled = ok(client.shardwell("pull", "me/tar", "--out", client.home / "pulled", token=None))
    same_folders(folder, Path(pulled.stdout.splitlines()[-1]))
    ok(client.shardwell("verify", "hf://datasets/me/tar"))


@slow
def test_with_xet_there_and_back(client: Client, digits_dataset: Path, tmp_path: Path) -> None:
    """Files go to Xet's store and come from there; ``local://`` is its client's own store."""
    hf_xet = pytest.importorskip("hf_xet")
    hub, out, xet = client.hub, tmp_path / "exported", {"HF_HUB_DISABLE_XET": "0"}
    ok(client.shardwell("export", digits_dataset, "--out", out))  # the same bytes
    session, store = hf_xet.XetSession(), f"local://{tmp_path / 'names'}"
    for file in out.rglob("*.parquet"):
        with session.new_upload_commit(endpoint=store) as commit:
            sent = commit.start_upload_bytes(file.read_bytes(), sha256=hf_xet.COMPUTE_SHA256)
        hub.xet_hashes[sent.result().xet_info.sha256] = sent.result().xet_info.hash
    hub.xet = tmp_path / "store"
    assert "published: commit" in ok(client.publish(digits_dataset, "me/data", **xet)).stdout
    assert hub.count("xet-write-token")
    assert not hub.count("PUT /lfs")
    assert "up to date: commit" in ok(client.publish(digits_dataset, "me/data", **xet)).stdout
    pull = "pull", "me/data", "--out", tmp_path / "pulled"
    same_folders(digits_dataset, Path(ok(client.shardwell(*pull, **xet)).stdout.splitlines()[-1]))
    assert hub.count("xet-read-token")


@slow
def test_options_of_a_publication(client: Client, digits_dataset: Path) -> None:
    options = "--split", "test", "--revision", "dev", "--tag", "v1", "--gated", "--config", "len-5"
    ok(client.publish(digits_dataset, "me/data", *options))
    assert published_files(client.hub, "me/data") == set()
    files = {"README.md", f"len-5/{NAME}", "len-5/test-00000-of-00001.parquet"}
    assert published_files(client.hub, "me/data", "dev") == files
    repo = client.hub.repos["me/data"]
    assert repo.tags["v1"] == repo.branches["dev"]
    assert repo.gated == "auto"
    assert "gated: ask for access" in only_line(
        client.shardwell("pull", "me/data@dev", token=READER)
    )
    pulled = ok(client.shardwell("pull", "me/data@v1", "--out", client.home / "pulled"))
    assert pulled.stdout.startswith("pulled: test 100\n")
    told = only_line(client.publish(digits_dataset, "me/data", "--tag", "v1"), 2)
    assert "tag v1 names the commit" in told


@slow
def test_what_a_dry_run_tells_needs_no_hub(client: Client, digits_dataset: Path) -> None:
    done = ok(client.publish(digits_dataset, "me/data", "--dry-run", token=None))
    assert "tokens/train-00000-of-00001.parquet" in done.stdout
    assert "licence   tokens: public domain" in done.stdout
    assert not client.hub.asked
    assert not list((client.home / ".cache" / "shardwell" / "publish").glob("[!.]*"))
