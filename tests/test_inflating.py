"""Archives are inflated once, by one process, and kept when they are proven and on the disk."""

import bz2
import contextlib
import errno
import gzip
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest

from pipeline.archive import Opened, open_source, plain_path
from pipeline.errors import ArchiveError, SourceError
from tests.tars import ignore, tar_bytes


def test_an_archive_is_inflated_once(tmp_path: Path) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(gzip.compress(tar_bytes()))
    ticks: list[int] = []
    first = open_source("main", file, "ab" * 32, tmp_path, ticks.append)
    assert sum(ticks) == file.stat().st_size
    stamp = first.path.stat().st_mtime_ns
    again = open_source("main", file, "ab" * 32, tmp_path, ticks.append)
    assert again.path.stat().st_mtime_ns == stamp


def test_two_that_open_an_archive_share_one_inflation(
    tmp_path: Path, one_waits: threading.Event
) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(gzip.compress(tar_bytes()))
    inflated: list[int] = []

    def tick(done: int) -> None:
        inflated.append(done)
        assert one_waits.wait(5)

    def run() -> Opened:
        return open_source("main", file, "ab" * 32, tmp_path, tick)

    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(run) for _ in range(2))
        assert dict(first.result().members) == dict(second.result().members)
    assert sum(inflated) == file.stat().st_size


def test_what_a_killed_inflation_left_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(gzip.compress(tar_bytes()))
    left = tmp_path / "inflated" / f".{'ab' * 8}.plain.99.part"
    left.parent.mkdir()
    left.write_bytes(b"half")
    open_source("main", file, "ab" * 32, tmp_path, ignore)
    assert not left.exists()


@pytest.mark.parametrize("squeeze", [gzip.compress, bz2.compress], ids=["gzip", "bzip2"])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_archive_leaves_nothing_behind(
    tmp_path: Path, squeeze: object, damage: str
) -> None:
    data = bytearray(squeeze(os.urandom(300_000)))  # type: ignore[operator]
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[-5] ^= 0xFF
    file = tmp_path / "x.tar"
    file.write_bytes(data)
    with pytest.raises(ArchiveError, match="can't be inflated, the archive is damaged"):
        open_source("main", file, "ef" * 32, tmp_path / "cache", ignore)
    (left,) = (tmp_path / "cache" / "inflated").iterdir()
    assert left.suffix == ".lock"


def test_the_index_is_kept_and_trusted_only_for_its_file(tmp_path: Path) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(gzip.compress(tar_bytes()))

    def opened() -> Opened:
        return open_source("main", file, "ab" * 32, tmp_path / "cache", ignore)

    first = opened()
    expected, content = dict(first.members), first.path.read_bytes()
    os.utime(first.path, (1, 1))  # touched, not changed: found by its hash
    assert dict(opened().members) == expected
    first.path.write_bytes(content[:-512] + b"x" * 512)
    assert dict(opened().members) == expected
    assert first.path.read_bytes() == content
    (tmp_path / "cache" / "inflated" / f"{'ab' * 8}.index").write_bytes(b"not ours")
    assert dict(opened().members) == expected


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tar"])
@pytest.mark.parametrize("damaged", [False, True])
def test_nothing_of_a_file_that_is_not_proven_is_kept(
    tmp_path: Path, name: str, damaged: bool
) -> None:
    """Hashing goes on beside inflating: no wrong file may stand under the right one's name."""
    data = tar_bytes()[: 1300 if damaged else None]
    file = tmp_path / name
    file.write_bytes(gzip.compress(data) if name.endswith("gz") else data)

    def refuse() -> None:
        raise SourceError("another file")

    with pytest.raises(SourceError, match="another file"):
        open_source("main", file, "ab" * 32, tmp_path / "cache", ignore, refuse)
    assert all(left.suffix == ".lock" for left in (tmp_path / "cache" / "inflated").iterdir())


def test_what_another_process_made_meanwhile_does_not_prove_our_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, cache = tmp_path / "x.tar.gz", tmp_path / "cache"
    file.write_bytes(gzip.compress(tar_bytes()))
    looks: list[str] = []

    @contextlib.contextmanager
    def waited(path: Path) -> Iterator[None]:
        monkeypatch.undo()
        open_source("main", file, "ab" * 32, cache, ignore)  # what was waited for
        looks.append(path.name)
        yield

    def refuse() -> None:
        raise SourceError("another file")

    monkeypatch.setattr("pipeline.archive.opening.alone", waited)
    with pytest.raises(SourceError, match="another file"):
        open_source("main", file, "ab" * 32, cache, ignore, refuse)
    assert len(looks) == 1


def test_what_is_not_on_the_disk_yet_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards may be built of it meanwhile; a disk that lost its bytes is told by name."""
    file, cache, waiting = tmp_path / "x.tar.gz", tmp_path / "cache", []
    file.write_bytes(gzip.compress(tar_bytes()))
    flush = Mock(side_effect=OSError(errno.EIO, "Input/output error"))
    monkeypatch.setattr("os.fsync", flush)
    opened = open_source("main", file, "ab" * 32, cache, ignore, later=waiting.append)
    assert opened.path.read_bytes() == tar_bytes()
    assert not flush.called
    with pytest.raises(OSError, match=f"Input/output error: '{opened.path}'"):
        waiting.pop()()
    assert not list(cache.rglob("*.index"))
    monkeypatch.undo()
    again: list[int] = []
    open_source("main", file, "ab" * 32, cache, again.append)
    assert sum(again) == file.stat().st_size
    assert list(cache.rglob("*.index"))


def test_who_wants_the_same_waits_until_it_is_kept(tmp_path: Path) -> None:
    file, cache, waiting = tmp_path / "x.tar.gz", tmp_path / "cache", []
    file.write_bytes(gzip.compress(tar_bytes()))
    first = open_source("main", file, "ab" * 32, cache, ignore, later=waiting.append)
    with ThreadPoolExecutor(2) as pool:
        ticks: list[int] = []
        second = pool.submit(open_source, "main", file, "ab" * 32, cache, ticks.append)
        with pytest.raises(TimeoutError):
            second.result(timeout=0.3)
        pool.submit(waiting.pop()).result()  # in any thread
        assert dict(second.result(timeout=30).members) == dict(first.members)
    assert not ticks  # nothing was inflated again


def test_what_has_no_index_makes_room_first(tmp_path: Path) -> None:
    """A disk that holds the plain file once must do."""
    file, cache = tmp_path / "x.tar.gz", tmp_path / "cache"
    file.write_bytes(gzip.compress(tar_bytes()))
    plain = plain_path(file, "ab" * 32, cache)
    plain.parent.mkdir(parents=True)
    plain.write_bytes(b"left by a killed run")
    there: list[bool] = []
    opened = open_source("main", file, "ab" * 32, cache, lambda done: there.append(plain.exists()))
    assert opened.path.read_bytes() == tar_bytes()
    assert there[0] is False
