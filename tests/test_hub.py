"""To a Hub on loopback and back, by the unmodified clients, in processes of their own."""

import dataclasses
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset import NAME, open_sealed
from pipeline.errors import RemoteError, UsageError
from pipeline.features import Vector
from pipeline.hub import hub_errors
from pipeline.prepare import Request, prepare_dataset
from pipeline.publish.place import Place, is_on_hub, parse_place
from pipeline.shard import read_shard
from tests.conftest import real_data
from tests.hub import READER, TOKEN, USERS, Hub, Repo, running_hub
from tests.sealed import Made, write_made, write_sealed

Ask = Callable[..., Request]
Done = subprocess.CompletedProcess[str]
slow = pytest.mark.slow


class Client:
    """Runs ``shardwell`` or Python as a user of a Hub, without Xet, with a home of its own."""

    def __init__(self, hub: Hub, home: Path) -> None:
        self.hub, self.home = hub, home

    def environment(self, token: str | None, **more: str) -> dict[str, str]:
        own = {
            "HF_HOME": str(self.home / "hf"),
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HOME": str(self.home),
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        return inherited | own | ({"HF_TOKEN": token} if token else {}) | more

    def run(self, *command: str, token: str | None = TOKEN, **environment: str) -> Done:
        return subprocess.run(
            [sys.executable, *command],
            env=self.environment(token, **environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def shardwell(self, *arguments: object, **how: Any) -> Done:
        return self.run("-m", "pipeline", *map(str, arguments), **how)

    def publish(self, *arguments: object, **how: Any) -> Done:
        return self.shardwell("publish", *arguments, **how)

    def python(self, code: str, **how: Any) -> Any:
        """What the code printed last, as JSON."""
        done = self.run("-c", code, **how)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as running:
        yield running


@pytest.fixture
def client(hub: Hub, tmp_path: Path) -> Client:
    return Client(hub, tmp_path)


def ok(done: Done) -> Done:
    assert done.returncode == 0, done.stderr
    return done


def only_line(done: Done, code: int = 1) -> str:
    """The one line of a job that failed."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.replace("\r", "\n").strip().splitlines()
    told = [line for line in lines if line.startswith("shardwell: ")]
    assert lines[-1 - (code == 2)] == told[0], done.stderr
    assert len(told) == 1
    assert "Traceback" not in done.stderr
    return told[0]


def published_files(hub: Hub, name: str, revision: str = "main") -> set[str]:
    return set(hub.repos[name].files(revision)[1]) - {".gitattributes"}


def same_folders(first: Path, second: Path) -> None:
    """Equal files, sidecars left aside."""
    names = {path.name for path in second.iterdir() if not path.name.startswith(".")}
    assert names == {
        path.name for path in first.iterdir() if path.suffix == ".arrow" or path.name == NAME
    }
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


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
def test_webdataset_is_published_and_loaded(client: Client, ask_commands: Ask) -> None:
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
    told = only_line(client.shardwell("pull", "me/tar"))
    assert "published as 'webdataset', which can't be brought back; load it with" in told


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


# --- what goes wrong on the way there -------------------------------------------------------------


@slow
def test_an_upload_that_is_cut_off_is_resumed(client: Client, digits_dataset: Path) -> None:
    hub = client.hub
    hub.faults = [(r"PUT /lfs", 400)]
    told = only_line(client.publish(digits_dataset, "me/data"))
    assert "it refuses the request (status 400" in told
    assert published_files(hub, "me/data") == set()
    hub.asked.clear()
    ok(client.publish(digits_dataset, "me/data"))
    assert 1 <= hub.count("PUT /lfs") < 3
    assert len(published_files(hub, "me/data")) == 5


@slow
def test_a_publish_that_is_killed_is_resumed(client: Client, digits_dataset: Path) -> None:
    hub = client.hub
    hub.faults = [(r"PUT /lfs", -1)]
    command = [sys.executable, "-m", "pipeline", "publish", str(digits_dataset), "me/data"]
    with subprocess.Popen(command, env=client.environment(TOKEN)) as process:
        assert hub.silent.wait(60)
        process.kill()
    assert published_files(hub, "me/data") == set()
    assert "published" in ok(client.publish(digits_dataset, "me/data")).stdout
    assert len(published_files(hub, "me/data")) == 5
    assert not list((client.home / ".cache" / "shardwell" / "publish").glob("[!.]*"))


@slow
def test_a_network_that_is_lost_for_good_is_one_line(client: Client, digits_dataset: Path) -> None:
    hub = client.hub
    hub.faults = [(r"PUT /lfs", -1)]
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(client.publish, digits_dataset, "me/data")
        assert hub.silent.wait(60)
        hub.faults = [("", 0)] * 999  # from here on nothing is answered
        hub.go_on.set()
        told = only_line(publishing.result())
    assert "the line was cut; run the same command again" in told
    hub.faults.clear()
    assert published_files(hub, "me/data") == set()
    assert not list((client.home / ".cache" / "shardwell" / "publish").glob("[!.]*"))
    ok(client.publish(digits_dataset, "me/data"))
    assert len(published_files(hub, "me/data")) == 5


@slow
def test_a_busy_hub_and_a_cut_line_are_waited_for(client: Client, digits_dataset: Path) -> None:
    hub = client.hub
    hub.faults = [(r"PUT /lfs", 503), (r"PUT /lfs", 0), (r"POST .*/commit/", 429)]
    assert "published" in ok(client.publish(digits_dataset, "me/data")).stdout
    assert hub.faults == []
    assert len(hub.repos["me/data"].commits) == 2


@slow
def test_a_commit_that_is_cut_off_is_made_again(client: Client, digits_dataset: Path) -> None:
    client.hub.faults = [(r"POST .*/commit/", 0)]
    told = only_line(client.publish(digits_dataset, "me/data"))
    assert "the line was cut; run the same command again" in told
    assert published_files(client.hub, "me/data") == set()
    client.hub.asked.clear()
    ok(client.publish(digits_dataset, "me/data"))
    assert not client.hub.count("PUT /lfs")
    assert len(published_files(client.hub, "me/data")) == 5


@slow
def test_somebody_else_commits_meanwhile(client: Client, digits_dataset: Path) -> None:
    client.hub.faults = [(r"POST .*/commit/", 412)]
    told = only_line(client.publish(digits_dataset, "me/data"))
    assert "somebody else changed it meanwhile; run the same command again" in told
    assert published_files(client.hub, "me/data") == set()


@slow
def test_a_changed_dataset_replaces_the_old_one(client: Client, ask_digits: Ask) -> None:
    hub, first = client.hub, prepare_dataset(ask_digits(protocol="len-5")).folder
    second = prepare_dataset(ask_digits(protocol="len-10")).folder
    ok(client.publish(first, "me/data"))
    ok(client.publish(second, "me/data", "--split", "train"))
    files = {"README.md", f"tokens/{NAME}", "tokens/train-00000-of-00001.parquet"}
    assert published_files(hub, "me/data") == files
    assert len(hub.repos["me/data"].commits) == 3


@slow
def test_private_is_private(client: Client, digits_dataset: Path) -> None:
    ok(client.publish(digits_dataset, "me/open"))
    ok(client.publish(digits_dataset, "me/open", "--private"))  # from now on
    ok(client.publish(digits_dataset, "me/data", "--private"))
    for name in ("me/open", "me/data"):
        assert client.hub.repos[name].private
        told = only_line(client.shardwell("pull", name, token=None))
        assert "it is private and not yours" in told
        code = f"import datasets; datasets.load_dataset({name!r}, revision='main')"
        refused = client.run("-c", code, token=None)
        assert refused.returncode == 1
        assert "DatasetNotFoundError" in refused.stderr
        ok(client.run("-c", code))


WRONG = {
    "no token": ("me/x", None, "no token; log in with: hf auth login, or set HF_TOKEN"),
    "wrong token": ("me/x", "hf_wrong0123456789", "it doesn't know this token"),
    "broken token": ("me/x", "hf_wrong\t0123456789", "the token holds blanks"),
    "no right": ("other/x", TOKEN, "this token may write to me, not to other"),
    "reader": ("you/x", READER, "this token may only read; take one that may write"),
    "model": ("me/model", TOKEN, "the name is taken by what is no dataset; take another"),
    "not ours": ("me/own", TOKEN, r"files that shardwell has not published (data.csv)"),
}


@slow
@pytest.mark.parametrize("name", WRONG)
def test_a_hub_that_refuses_is_one_line(name: str, client: Client, digits_dataset: Path) -> None:
    where, token, message = WRONG[name]
    hub = client.hub
    hub.repos["me/model"] = Repo("model", False)
    hub.repos["me/own"] = Repo("dataset", False)
    hub.repos["me/own"].commit({"data.csv": hub.file(b"1,2\n", False)}, "main")
    done = client.publish(digits_dataset, where, token=token)
    assert message in only_line(done)
    for known in (*USERS, token or TOKEN, "wrong0123"):
        assert known not in done.stderr + done.stdout
    assert published_files(hub, "me/own") == {"data.csv"}
    assert not hub.count("PUT|POST .*(commit|preupload)")


@slow
def test_what_is_wrong_here_is_one_line(client: Client, ask_digits: Ask, tmp_path: Path) -> None:
    folder = Path(prepare_dataset(ask_digits()).folder)
    told = only_line(client.publish(folder, "me/x", "--endpoint", "http://127.0.0.1:9"))
    assert "the Hub can't be reached" in told
    told = only_line(client.publish(folder, "me/x", HF_HUB_DISABLE_XET="0"))
    assert "this Hub has no Xet; set HF_HUB_DISABLE_XET=1" in told
    assert published_files(client.hub, "me/x") == set()
    ok(client.publish(folder, "me/x"))
    ok(client.shardwell("pull", "me/x", "--out", tmp_path / "pulled", HF_HUB_DISABLE_XET="0"))
    assert "expected a sealed dataset" in only_line(client.publish(tmp_path, "me/y"))
    assert "expected user/name" in only_line(client.publish(folder, "me"), 2)
    path = folder / "train-00000-of-00001.arrow"
    path.write_bytes(path.read_bytes()[::-1])
    assert "expected sha256" in only_line(client.publish(folder, "me/y"))
    assert "me/y" not in client.hub.repos


@slow
def test_a_hub_that_refuses_to_make_it(client: Client, digits_dataset: Path) -> None:
    client.hub.faults = [(r"POST /api/repos/create", 403)]
    told = only_line(client.publish(digits_dataset, "me/x"))
    assert "this token may not do that there" in told
    assert not client.hub.repos


@slow
def test_a_licence_that_is_not_known_to_allow_it(client: Client, ask_phrases: Ask) -> None:
    folder = Path(prepare_dataset(ask_phrases()).folder)
    told = only_line(client.publish(folder, "me/x"), 2)
    assert "the licence is 'CC0-1.0', passing it on is unknown" in told
    assert "--i-may-redistribute" in told
    assert not client.hub.asked
    done = ok(client.publish(folder, "me/x", "--dry-run"))
    assert "publishing it takes --i-may-redistribute" in done.stdout


FULL = """
import resource
from pipeline.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
raise SystemExit(main())
"""


@slow
def test_a_full_disk_leaves_nothing(client: Client, ask_commands: Ask) -> None:
    folder, out = Path(prepare_dataset(ask_commands()).folder), client.home / "out"
    given = "--i-may-redistribute", "--cache", str(out)

    def refused(*command: str) -> None:
        told = only_line(client.run("-c", FULL, *command))
        assert str(out.parent) in told
        assert "File too large" in told

    refused("export", str(folder), "--out", str(out))
    assert [path.name for path in client.home.glob(".*out*")] == [".out.lock"]
    refused("publish", str(folder), "me/data", *given)
    assert not client.hub.repos
    assert not list(out.glob("publish/[!.]*"))
    ok(client.publish(folder, "me/data", *given))
    pull = "pull", "me/data", "--out", str(out / "pulled")
    refused(*pull)
    assert not [*out.rglob(NAME), *out.rglob("*.part")]
    ok(client.shardwell(*pull))


# --- what a malicious Hub may say -----------------------------------------------------------------


def tampered(hub: Hub, change: Callable[[dict[str, Any]], object]) -> None:
    """Another ``dataset.json``."""
    info = json.loads(hub.read("me/data", f"tokens/{NAME}"))
    change(info)
    hub.put("me/data", f"tokens/{NAME}", json.dumps(info).encode())


def replaced(hub: Hub, change: Callable[[Any], Any], honest: bool) -> None:
    """Another Parquet file of train, with its true hash in ``dataset.json`` where ``honest``."""
    path = "tokens/train-00000-of-00001.parquet"
    out = io.BytesIO()
    table = change(pq.read_table(io.BytesIO(hub.read("me/data", path))))
    pq.write_table(table, out, compression="zstd", use_dictionary=False)
    hub.put("me/data", path, out.getvalue())

    def tell(info: dict[str, Any]) -> None:
        entry = info["published"]["files"]["train-00000-of-00001"]
        entry["bytes"] = len(out.getvalue())
        if honest:
            entry["sha256"] = hashlib.sha256(out.getvalue()).hexdigest()

    tampered(hub, tell)


def first_shard(name: str, value: Any) -> Callable[[Hub], None]:
    return lambda hub: tampered(hub, lambda info: info["splits"]["train"][0].update({name: value}))


def entry(name: str, value: Any) -> Callable[[Hub], None]:
    def change(info: dict[str, Any]) -> None:
        info["published"]["files"]["train-00000-of-00001"][name] = value

    return lambda hub: tampered(hub, change)


def swapped(table: Any) -> Any:
    return table.take(np.arange(len(table))[::-1])


def column(name: str, values: Any, kind: pa.DataType) -> Callable[[Any], Any]:
    def change(table: Any) -> Any:
        at = table.schema.get_field_index(name)
        return table.set_column(at, name, pa.array([values] * len(table), kind))

    return change


def said_to_be(path: str, size: int) -> Callable[[Hub], None]:
    """Its listing gives another size than the file has."""

    def change(hub: Hub) -> None:
        repo = hub.repos["me/data"]
        files = repo.files("main")[1]
        repo.commit({**files, path: dataclasses.replace(files[path], size=size)}, "main")

    return change


MALICE: dict[str, tuple[Callable[[Hub], None], str]] = {
    "path": (first_shard("shard", "train-../../../evil"), "no shard's name"),
    "absolute": (first_shard("shard", "/tmp/train-00000-of-00001"), "no shard's name"),
    "counts": (first_shard("rows", -1), "no counts"),
    "rows": (first_shard("rows", 299), "expected 299 rows, got 300"),
    "huge": (first_shard("bytes", 1 << 40), "damaged: published files"),
    "files": (lambda hub: tampered(hub, lambda i: i["published"]["files"].clear()), "damaged"),
    "hash": (entry("sha256", "0" * 64), "expected sha256 000"),
    "no hash": (entry("sha256", "x"), "damaged: published files"),
    "bytes": (entry("bytes", 1), "expected bytes 1, got"),
    "content": (entry("content", "0" * 64), "expected rows with the hash 000"),
    "classes": (
        lambda hub: tampered(hub, lambda i: i["classes"].update(sum=["0"])),
        "label sum: expected classes 0 to 0",
    ),
    "labels": (
        lambda hub: tampered(hub, lambda i: i["classes"].update(evil=["0"])),
        "damaged: classes of labels that it has not",
    ),
    "width": (
        lambda hub: tampered(hub, lambda i: i["columns"].update(shape=[7])),
        "expected 7 in every row",
    ),
    "version": (
        lambda hub: tampered(hub, lambda i: i["published"].update(version=2)),
        "published by another version",
    ),
    "other rows": (lambda hub: replaced(hub, swapped, True), "expected rows with the hash"),
    "other bytes": (lambda hub: replaced(hub, swapped, False), "expected sha256"),
    "nulls": (
        lambda hub: replaced(hub, column("tokens", [1, None], pa.list_(pa.int64())), True),
        "nulls among them",
    ),
    "schema": (
        lambda hub: replaced(hub, column("tokens", [1.5], pa.list_(pa.float64())), True),
        "expected the columns key: string",
    ),
    "widths": (
        lambda hub: replaced(hub, column("tokens", [1] * 4, pa.list_(pa.int64())), True),
        "expected rows with the hash",
    ),
    "bomb": (
        lambda hub: replaced(hub, column("tokens", [1] * 99_999, pa.list_(pa.int64())), True),
        "expected at most",
    ),
    "no parquet": (lambda hub: replaced(hub, lambda table: table.slice(0, 0), True), "got 0"),
    "many rows": (first_shard("rows", 1 << 47), "expected 140737488355328 rows, got 300"),
    "many more": (first_shard("rows", 1 << 48), "no counts"),
    "huge json": (
        said_to_be(f"tokens/{NAME}", 1 << 30),
        "expected at most 67,108,864 bytes, got 1073741824",
    ),
    "lying size": (said_to_be(f"tokens/{NAME}", 17), "expected bytes 17, got"),
    "lying sizes": (
        said_to_be("tokens/train-00000-of-00001.parquet", 17),
        "expected bytes",
    ),
    "json": (
        lambda hub: hub.put("me/data", f"tokens/{NAME}", b"[" * 99999),
        "not readable as JSON",
    ),
    "a link": (
        lambda hub: hub.put("me/data", "tokens/train-00000-of-00001.parquet", b"../../etc/passwd"),
        "got 16; it was changed or damaged on the Hub",
    ),
    "a link to json": (
        lambda hub: hub.put("me/data", f"tokens/{NAME}", b"../../etc/passwd"),
        "not readable as JSON",
    ),
    "escapes": (
        lambda hub: replaced(
            hub, lambda t: t.rename_columns([f"{n}\n\x1b[2J" for n in t.column_names]), True
        ),
        r"got key\n\x1b[2J: ",
    ),
    "no dataset": (lambda hub: hub.repos["me/data"].commit({}, "main"), "holds no dataset"),
}


@pytest.fixture(scope="module")
def shared(digits_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A Hub with a dataset on it, for many pulls."""
    with running_hub() as hub:
        client = Client(hub, tmp_path_factory.mktemp("shared"))
        ok(client.publish(digits_dataset, "me/data"))
        yield client


@slow
@pytest.mark.parametrize("name", MALICE)
def test_a_malicious_hub_is_one_line_and_no_dataset(
    name: str, shared: Client, tmp_path: Path
) -> None:
    change, message = MALICE[name]
    repo = shared.hub.repos["me/data"]
    good = repo.commits[1]
    change(shared.hub)
    try:
        done = shared.shardwell("pull", "me/data", "--out", tmp_path / "out" / "data")
        assert message in only_line(done)
        assert not list(tmp_path.rglob(NAME))
        assert not list(tmp_path.rglob("*evil*"))
        assert {path.name for path in tmp_path.iterdir()} <= {"out"}
    finally:
        repo.commits = [repo.commits[0], good]
        repo.branches["main"] = good[0]


@slow
def test_a_script_on_the_hub_is_never_executed(client: Client, digits_dataset: Path) -> None:
    ok(client.publish(digits_dataset, "me/data"))
    marker = client.home / "executed"
    script = f"open({str(marker)!r}, 'w')\n".encode()
    for path in ("data.py", "tokens/tokens.py", "tokens/__init__.py", "conftest.py"):
        client.hub.put("me/data", path, script)
    pulled = ok(client.shardwell("pull", "me/data", "--out", client.home / "pulled"))
    same_folders(digits_dataset, Path(pulled.stdout.splitlines()[-1]))
    assert not marker.exists()


@slow
def test_files_with_odd_names_are_left_on_the_hub(
    shared: Client, digits_dataset: Path, tmp_path: Path
) -> None:
    repo = shared.hub.repos["me/data"]
    good, info = repo.commits[1], shared.hub.read("me/data", f"tokens/{NAME}")
    odd = (
        "../evil",
        "/evil",
        "..",
        "evil\n",
        "\x1b[2Jevil",
        "evil/tokens",
        "C:evil",
        "~evil",
        "-evil",
    )
    for folder in odd:
        shared.hub.put("me/data", f"{folder}/{NAME}", info)
    for name in ("../evil.parquet", ".evil.part", "evil/x.arrow", "evil\n.arrow"):
        shared.hub.put("me/data", f"tokens/{name}", b"evil")
    try:
        out = tmp_path / "out" / "data"
        done = ok(shared.shardwell("pull", "me/data", "--out", out))
        same_folders(digits_dataset, Path(done.stdout.splitlines()[-1]))
        assert not list(tmp_path.rglob("*evil*"))
        assert {path.name for path in tmp_path.iterdir()} == {"out"}
    finally:
        repo.commits = [repo.commits[0], good]
        repo.branches["main"] = good[0]


@slow
def test_an_interrupted_pull_goes_on(shared: Client, digits_dataset: Path, tmp_path: Path) -> None:
    shared.hub.faults = [(r"GET .*/validation.*parquet", 403)]
    pull = "pull", "me/data", "--out", tmp_path / "data"
    assert "may not do that" in only_line(shared.shardwell(*pull))
    assert not list(tmp_path.rglob(NAME))
    shared.hub.asked.clear()
    done = ok(shared.shardwell(*pull))
    assert not shared.hub.count("GET .*/train.*parquet")
    same_folders(digits_dataset, Path(done.stdout.splitlines()[-1]))
