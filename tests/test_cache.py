"""The cache that streams share: bounded, verified, with others at work in it."""

import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import pytest

from pipeline.cache import Cache, held, touch
from pipeline.errors import RemoteError
from pipeline.files import sha256_of
from pipeline.records import ShardInfo
from pipeline.remote import fetch_shard, open_remote
from tests.sealed import write_sealed
from tests.stores import Counted, counted_store


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """Eight shards of one size."""
    rows = [np.full((3, 40), n, np.float32) for n in range(32)]
    with counted_store(write_sealed(tmp_path / "data", rows, 8, True)) as url:
        yield url


@pytest.fixture
def shards(url: str) -> tuple[ShardInfo, ...]:
    return open_remote(url).splits["train"]


def there(cache: Cache) -> set[str]:
    """The shards in it."""
    return {path.name.partition(".")[0] for path in cache.folder.glob("*.arrow")}


def test_what_was_used_longest_ago_goes_first(
    url: str, shards: tuple[ShardInfo, ...], tmp_path: Path
) -> None:
    cache = Cache(partial(fetch_shard, url), tmp_path / "cache", 3 * shards[0].bytes)
    for number in (0, 1, 2, 0, 3):
        with held(cache, shards[number]) as path:
            assert sha256_of(path) == shards[number].sha256
        time.sleep(0.01)
    assert there(cache) == {shards[number].shard for number in (0, 2, 3)}
    touch(cache, [shards[2], shards[7]])  # will be used soon
    with held(cache, shards[4]):
        assert there(cache) == {shards[number].shard for number in (2, 3, 4)}
    assert Counted.fetched == [shards[number].shard for number in (0, 1, 2, 3, 4)]


def test_what_is_held_stays_and_another_waits_for_room(
    url: str, shards: tuple[ShardInfo, ...], tmp_path: Path
) -> None:
    cache = Cache(partial(fetch_shard, url), tmp_path / "cache", shards[0].bytes)

    def second() -> Path:
        with held(cache, shards[1]) as path:
            assert there(cache) == {shards[1].shard}
            return path

    with ThreadPool(1) as pool:
        with held(cache, shards[0]) as path:
            waiting = pool.apply_async(second)
            time.sleep(0.2)
            assert not waiting.ready()
            assert there(cache) == {shards[0].shard}
        assert waiting.get(20) != path
    assert Counted.fetched == [shards[0].shard, shards[1].shard]


def test_many_at_once_share_a_download(
    url: str, shards: tuple[ShardInfo, ...], tmp_path: Path
) -> None:
    cache = Cache(partial(fetch_shard, url), tmp_path / "cache", 8 * shards[0].bytes)

    def use(number: int) -> str:
        with held(cache, shards[number % 8]) as path:
            return sha256_of(path)

    with ThreadPool(6) as pool:
        hashes = pool.map(use, range(48), chunksize=1)
    assert hashes == [shards[n % 8].sha256 for n in range(48)]
    assert sorted(Counted.fetched) == [shard.shard for shard in shards]


@pytest.mark.parametrize("number", [0, 1])
def test_what_a_killed_process_left_takes_no_room(
    url: str, shards: tuple[ShardInfo, ...], tmp_path: Path, number: int
) -> None:
    """Neither the reservation of the shard that is wanted nor that of another one."""
    cache = Cache(partial(fetch_shard, url), tmp_path / "cache", shards[0].bytes)
    with held(cache, shards[number]) as path:
        size = path.stat().st_size
    left = [path.with_name(f".{path.name}.{kind}.part") for kind in ("room", "0123abcd")]
    path.unlink()
    for file in left:
        file.write_bytes(bytes(size))
    with held(cache, shards[0]) as path:
        assert {path.suffix for path in cache.folder.iterdir()} == {".lock", ".arrow"}


def test_what_fails_leaves_neither_bytes_nor_a_reservation(
    url: str, shards: tuple[ShardInfo, ...], tmp_path: Path
) -> None:
    cache = Cache(partial(fetch_shard, url), tmp_path / "cache", shards[0].bytes)
    Counted.breaks.add(shards[0].shard)
    with pytest.raises(RemoteError, match="connection lost"), held(cache, shards[0]):
        raise AssertionError
    assert {path.suffix for path in cache.folder.iterdir()} == {".lock"}
    with held(cache, shards[1]) as path:
        assert path.exists()
