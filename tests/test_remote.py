"""Datasets elsewhere: a real S3 API on the loopback, and other stores that fsspec knows."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline.cli import main
from pipeline.dataset import NAME, verify
from pipeline.engines import ENGINES, Run
from pipeline.errors import BuildError, DatasetError, OutputError, RemoteError
from pipeline.loader import open_dataset
from pipeline.prepare import Prepared, Request, prepare_dataset
from pipeline.remote import bring, read, sizes, upload
from tests.cluster import Cluster, started_cluster
from tests.test_prepare import contents

Ask = Callable[..., Request]


def stored(url: str) -> dict[str, bytes]:
    return {name: read(f"{url}/{name}") or b"" for name in sizes(url)}


def test_a_dataset_goes_to_s3_and_comes_back(ask_digits: Ask, bucket: str, tmp_path: Path) -> None:
    expected = contents(Path(prepare_dataset(ask_digits()).folder))
    done = prepare_dataset(ask_digits(out=f"{bucket}/some/prefix/"))
    assert isinstance(done.folder, str)
    assert done.folder.startswith(f"{bucket}/some/prefix/digit_sum/len-5-tokens-")
    assert stored(done.folder) == expected
    assert prepare_dataset(ask_digits(out=f"{bucket}/some/prefix")) == Prepared(
        done.folder, done.rows, bad=0, odd=0, up_to_date=True
    )
    data = open_dataset(done.folder, cache=tmp_path / "cache")
    assert {split: len(data[split]) for split in data} == done.rows
    assert verify(data.sealed.folder, lambda size: None) == []
    assert data.sealed.folder.is_relative_to(tmp_path / "cache" / "remote")


def test_scratch_is_swept(ask_digits: Ask, bucket: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    prepare_dataset(ask_digits(out=bucket, cache=cache))
    assert [p for p in (cache / "scratch").rglob("*") if p.suffix != ".lock"] == []


def test_a_run_goes_on_where_the_last_one_ended(
    ask_commands: Ask, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.plan.SMALLEST_SHARD", 20_000)
    url = str(prepare_dataset(ask_commands(out=bucket)).folder)
    expected = stored(url)
    store, path = fsspec.core.url_to_fs(url)
    shards = sorted(name for name in expected if name.endswith(".arrow"))
    store.rm_file(f"{path}/{NAME}")
    store.rm_file(f"{path}/{shards[0]}")  # never finished
    store.pipe_file(f"{path}/{shards[1]}", b"half")  # cut short
    sidecar = json.loads(expected[shards[2].replace(".arrow", ".json")])
    other = json.dumps(sidecar | {"made_from": "another recipe"}).encode()
    store.pipe_file(f"{path}/{shards[2].replace('.arrow', '.json')}", other)
    uploaded = []

    def noted(local: Path, place: str) -> None:
        uploaded.append(place.rpartition("/")[2])
        upload(local, place)

    monkeypatch.setattr("pipeline.ship.upload", noted)
    assert not prepare_dataset(ask_commands(out=bucket)).up_to_date
    assert stored(url) == expected
    assert {name for name in uploaded if name.endswith(".arrow")} == set(shards[:3])


def test_a_damaged_store_is_seen_and_mended(
    ask_digits: Ask, bucket: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url = str(prepare_dataset(ask_digits(out=bucket)).folder)
    assert main(["verify", url]) == 0
    assert "all is well: train 300" in capsys.readouterr().out
    name = "train-00000-of-00001.arrow"
    good = read(f"{url}/{name}") or b""
    store, path = fsspec.core.url_to_fs(url)
    store.pipe_file(f"{path}/{name}", good[:-1] + b"?")
    assert main(["verify", url]) == 1
    assert f"{url}/{name}: expected sha256" in capsys.readouterr().err
    with pytest.raises(DatasetError, match=f"{name}: expected sha256"):
        open_dataset(url, cache=tmp_path)
    assert not list(tmp_path.rglob("train*.arrow"))
    store.pipe_file(f"{path}/{name}", good[:-1])
    with pytest.raises(DatasetError, match="bytes, got"):
        open_dataset(url, cache=tmp_path)
    assert not prepare_dataset(ask_digits(out=bucket)).up_to_date
    assert len(open_dataset(url, cache=tmp_path)["train"]) == 300


def test_what_was_fetched_is_not_fetched_again(
    ask_digits: Ask, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(prepare_dataset(ask_digits(out=bucket)).folder)
    folder = bring(url, tmp_path)
    times = {path: path.stat().st_mtime_ns for path in folder.glob("*.arrow")}
    (folder / "test-00000-of-00001.arrow").unlink()
    assert bring(f"{url}/", tmp_path) == folder
    changed = {p.name for p in times if p.stat().st_mtime_ns != times[p]}
    assert changed == {"test-00000-of-00001.arrow"}


def test_two_readers_at_once_share_a_copy(ask_digits: Ask, bucket: str, tmp_path: Path) -> None:
    url = str(prepare_dataset(ask_digits(out=bucket)).folder)
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(lambda _: bring(url, tmp_path), range(4)))
    (folder,) = folders
    assert verify(folder, lambda size: None) == []


def test_two_runs_at_once_end_with_a_valid_dataset(
    ask_commands: Ask, bucket: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From two machines, that is without a lock in common."""
    monkeypatch.setattr("pipeline.plan.SMALLEST_SHARD", 40_000)
    expected = contents(Path(prepare_dataset(ask_commands()).folder))
    requests = [ask_commands(out=bucket, cache=tmp_path / name) for name in "ab"]
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(prepare_dataset, requests))
    assert done[0].folder == done[1].folder
    assert stored(str(done[0].folder)) == expected


def test_another_dataset_json_is_another_copy(ask_digits: Ask, tmp_path: Path) -> None:
    url = str(prepare_dataset(ask_digits(out=f"file://{tmp_path}/store")).folder)
    first = bring(url, tmp_path / "cache")
    place = Path(url.removeprefix("file://")) / NAME
    info = json.loads(place.read_text())
    info["splits"]["train"][0]["sha256"] = "0" * 64
    place.write_text(json.dumps(info))
    with pytest.raises(DatasetError, match="expected sha256 0000"):
        bring(url, tmp_path / "cache")
    assert verify(first, lambda size: None) == []


@pytest.mark.parametrize("name", ["../../evil", "/tmp/evil", "train-00000-of-00001/../x", "s3://x"])
def test_a_hostile_dataset_json_names_no_path(ask_digits: Ask, tmp_path: Path, name: str) -> None:
    url = str(prepare_dataset(ask_digits(out=f"file://{tmp_path}/store")).folder)
    place = Path(url.removeprefix("file://")) / NAME
    info = json.loads(place.read_text())
    info["splits"]["train"][0]["shard"] = name
    place.write_text(json.dumps(info))
    with pytest.raises(DatasetError, match="no shard's name"):
        bring(url, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_other_stores_get_whole_files_only(ask_digits: Ask, tmp_path: Path, protocol: str) -> None:
    expected = contents(Path(prepare_dataset(ask_digits()).folder))
    url = str(prepare_dataset(ask_digits(out=f"{protocol}://{tmp_path}/store")).folder)
    assert stored(url) == expected  # and no temporary file


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("s3://no-such-bucket/x", "s3://no-such-bucket/x/digit_sum/.*: The specified bucket does"),
        ("gs://bucket/x", "install gcsfs"),
        ("soup://bucket/x", "Protocol not known: soup"),
    ],
)
def test_a_store_that_can_not_be_written_is_one_line_at_the_start(
    ask_digits: Ask, bucket: str, out: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.prepare.run._build", None)
    with pytest.raises(RemoteError, match=message) as caught:
        prepare_dataset(ask_digits(out=out))
    assert "\n" not in str(caught.value)


def test_what_lacks_is_one_line(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=r"expected a sealed dataset with a dataset\.json, got"):
        open_dataset(f"{bucket}/nothing", cache=tmp_path)
    with monkeypatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.delenv(name)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("HOME", str(tmp_path))
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        with pytest.raises(RemoteError, match="credentials; set AWS_ACCESS_KEY_ID"):
            open_dataset(f"{bucket}/nothing", cache=tmp_path)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3")  # type: ignore[attr-defined]
    with pytest.raises(RemoteError, match=r"pip install 'shardwell\[s3\]'"):
        open_dataset(f"{bucket}/nothing", cache=tmp_path)


def test_what_is_there_must_be_this_dataset(ask_digits: Ask, tmp_path: Path) -> None:
    out = f"file://{tmp_path}/store"
    url = str(prepare_dataset(ask_digits(out=out)).folder)
    (Path(url.removeprefix("file://")) / NAME).write_text("{}")
    with pytest.raises(OutputError, match="describes another dataset or is damaged"):
        prepare_dataset(ask_digits(out=out))


def test_a_shard_lost_on_the_way_is_no_dataset(
    ask_digits: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.ship.upload", lambda local, url: None)
    with pytest.raises(DatasetError, match="the shard is missing"):
        prepare_dataset(ask_digits(out=f"file://{tmp_path}/store"))
    assert not list((tmp_path / "store").rglob(NAME))


def test_the_command_prints_the_url_last_and_trains_from_it(
    bucket: str,
    ask_commands: Ask,
    capsys: pytest.CaptureFixture[str],
    cache: Path,
    tmp_path: Path,
) -> None:
    ask = ["prepare", "digit_sum", "--out", bucket, "--cache", str(cache), "--quiet"]
    assert main([*ask, "--engine", "serial"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{bucket}/digit_sum/len-5-tokens-")
    url = str(prepare_dataset(ask_commands(out=bucket)).folder)
    places = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run")]
    assert main(["train", url, "--epochs", "1", *places]) == 0
    assert "test accuracy" in capsys.readouterr().out


class TestDask:
    @pytest.mark.slow
    def test_no_engine_changes_a_byte(
        self,
        ask_commands: Ask,
        cluster: Cluster,
        bucket: str,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr("pipeline.plan.SMALLEST_SHARD", 20_000)
        expected = contents(Path(prepare_dataset(ask_commands()).folder))
        assert len(expected) > 10
        engines = {
            "local": {"engine": "local", "workers": 2},
            "dask": {"engine": "dask", "workers": 2},
            "tcp": {"engine": "dask", "address": cluster.address},
        }
        for name, engine in engines.items():
            done = prepare_dataset(ask_commands(out=tmp_path / name, **engine))
            assert contents(Path(done.folder)) == expected, name
        with started_cluster(tmp_path, workers=0) as threads:
            threads.add_worker(threads=4)
            request = ask_commands(out=tmp_path / "t", engine="dask", address=threads.address)
            assert contents(Path(prepare_dataset(request).folder)) == expected
        for name in ("local", "dask"):
            done = prepare_dataset(ask_commands(out=f"{bucket}/{name}", **engines[name]))
            assert stored(str(done.folder)) == expected, name

    @pytest.mark.slow
    def test_workers_unlike_the_driver_are_told_before_any_work(
        self, ask_commands: Ask, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("pipeline.probe._code", lambda: "0badc0de")
        request = ask_commands(out=tmp_path, engine="dask", address=cluster.address)
        told = r"^worker tcp:.*: on .*: shardwell .* \(expected .*\+0badc0de\); a dataset comes of"
        with pytest.raises(BuildError, match=told):
            prepare_dataset(request)
        assert not list(tmp_path.rglob("[!.]*.arrow"))


def elsewhere(monkeypatch: pytest.MonkeyPatch, **changes: object) -> None:
    """Make the engine "dask" probe as a worker would that differs in what is expected."""

    @contextlib.contextmanager
    def engine(*args: object) -> Iterator[Run]:
        def run(function: object, tasks: object, probe: Any = None) -> Iterator[Any]:
            job, expected = probe.args
            yield probe.func(job, replace(expected, **changes))

        yield run

    monkeypatch.setitem(ENGINES, "dask", engine)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"libraries": {"numpy": "0.1"}},
            r"numpy 2.* \(expected 0.1\); a dataset comes of one set",
        ),
        (
            {"sizes": {Path("/no/where"): 3}},
            "can't read /no/where as it is here; mount the folders",
        ),
        ({"marker": Path("/no/x.part")}, r"can't write /no as seen .* with --out s3://BUCKET"),
        ({"trial": "other"}, "rounds features in another way; run this command on a machine like"),
    ],
)
def test_the_probe_says_what_a_worker_lacks(
    ask_commands: Ask, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], message: str
) -> None:
    elsewhere(monkeypatch, **changes)
    with pytest.raises(BuildError, match=message) as caught:
        prepare_dataset(ask_commands(engine="dask"))
    assert "\n" not in str(caught.value)


def test_the_probe_tries_the_store_where_there_is_no_shared_disk(
    ask_commands: Ask, monkeypatch: pytest.MonkeyPatch, bucket: str
) -> None:
    elsewhere(monkeypatch, url="s3://no-such-bucket/x", marker=Path("/no/x.part"))
    with pytest.raises(BuildError, match="bucket does not exist; the worker needs room in"):
        prepare_dataset(ask_commands(out=bucket, engine="dask"))
