"""What may be asked of a publication: a place, several configs, options, a dry run."""

from pathlib import Path

import pytest

from pipeline.dataset import NAME
from pipeline.errors import UsageError
from pipeline.prepare import prepare_dataset
from pipeline.publish.place import Place, is_on_hub, parse_place
from tests.hub import READER
from tests.hub_client import Ask, Client, ok, only_line, published_files, same_folders, slow


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
