"""To a Hub on loopback and back, by the unmodified clients, in processes of their own."""

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.dataset import open_sealed
from pipeline.features import Vector
from pipeline.prepare import Request, prepare_dataset
from pipeline.shard import read_shard
from tests.conftest import real_data
from tests.hub_client import Ask, Client, ok, same_folders, slow
from tests.sealed import Made, write_made

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
