"""What a malicious Hub may say, and files with odd names: nothing of it is believed or run."""

import dataclasses
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.dataset import NAME
from tests.hub import Hub, running_hub
from tests.hub_client import (
    Client,
    ok,
    only_line,
    same_folders,
    slow,
)


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
        "damaged: ValueError: classes of labels that it has not",
    ),
    "width": (
        lambda hub: tampered(hub, lambda i: i["columns"].update(shape=[7])),
        "expected 7 in every row",
    ),
    "version": (
        lambda hub: tampered(hub, lambda i: i["published"].update(version=2)),
        "published by another version",
    ),
    "format": (
        lambda hub: tampered(hub, lambda i: i["published"].update(format="zip")),
        "expected the format parquet or webdataset, got 'zip'",
    ),
    "unhashable format": (
        lambda hub: tampered(hub, lambda i: i["published"].update(format=["zip"])),
        "expected the format parquet or webdataset, got \"['zip']\"",
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
    "UTF-16": (
        lambda hub: hub.put(
            "me/data",
            f"tokens/{NAME}",
            hub.read("me/data", f"tokens/{NAME}").decode().encode("utf-16"),
        ),
        "not readable as JSON",
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


@slow
@pytest.mark.parametrize("damage", ["flipped", "deleted", "cut", "dataset.json"])
def test_a_damaged_copy_is_mended(
    damage: str, shared: Client, digits_dataset: Path, tmp_path: Path
) -> None:
    pull = "pull", "me/data", "--out", tmp_path / "data"
    copy = Path(ok(shared.shardwell(*pull)).stdout.splitlines()[-1])
    path = copy / "train-00000-of-00001.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data[: -9 if damage == "cut" else None])
    if damage == "deleted":
        path.unlink()
    if damage == "dataset.json":
        (copy / NAME).write_text("{")
    shared.hub.asked.clear()
    ok(shared.shardwell(*pull))
    same_folders(digits_dataset, copy)
    assert not shared.hub.count("GET .*/test.*parquet")
