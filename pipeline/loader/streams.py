"""``stream``: a dataset shard after shard, never all of it on this machine."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pipeline.cache import Cache
from pipeline.dataset import Sealed, open_sealed
from pipeline.errors import UsageError
from pipeline.files import CACHE
from pipeline.loader.batches import ranks_of
from pipeline.loader.delivery import Loader
from pipeline.loader.fetching import Fetching
from pipeline.loader.opening import Dataset
from pipeline.loader.order import Order
from pipeline.loader.split import Batch, Split
from pipeline.loader.stream_turns import StreamTurns, Wanted
from pipeline.loader.transform import Transform, arranged
from pipeline.loader.turns import Batching
from pipeline.publish.known import find_known
from pipeline.publish.place import is_on_hub
from pipeline.publish.rebuild import rebuild
from pipeline.records import ShardInfo
from pipeline.remote import fetch_shard, is_url, open_remote

CACHE_BYTES = 16 << 30


def stream(
    where: str | Path,
    split: str,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
    num_workers: int = 0,
    pin_memory: bool = False,
    rank: int | None = None,
    world_size: int | None = None,
    normalize: bool = False,
    key: bool = False,
    labels: Sequence[str] | None = None,
    transform: Transform | None = None,
    device: str | torch.device | None = None,
    cache: str | Path | None = None,
    cache_bytes: int = CACHE_BYTES,
) -> Loader:
    """A ``DataLoader`` over a split that is read shard after shard: for what the disk can't hold.

    Batches and epochs are those of ``make_loader``, whatever ``num_workers``, but the order is
    another: in each epoch the shards are permuted and dealt to the ranks, and the rows of four
    shards are mixed at a time. A ``state_dict`` is for as many ranks as saved it. Shards at a URL
    are fetched when their turn comes, the next four ahead, verified, and kept in a cache that all
    processes share; those in a folder are mapped where they lie. One that was passed is unmapped.

    Args:
        where: the directory or the URL (``s3://…``, any that fsspec knows), as ``prepare`` named
            it; ``hf://datasets/user/name[@revision][:config]`` for what ``publish`` sent: there a
            shard's file is fetched, verified, and rebuilt as the shard that it was. Shards
            that the cache holds need no network where the commit is named or the Hub is silent.
        split: its name.
        batch_size: examples in a batch.
        shuffle: False for the stored order, which is mixed by a hash of the keys.
        seed: of every epoch's permutations.
        drop_last: whether a smaller last batch is left out, and what other ranks have no match for.
        num_workers: processes that make batches.
        pin_memory: whether batches are copied to page-locked memory, for a GPU to fetch.
        rank: this process's number among those that share the order out.
        world_size: how many they are: at most as many as there are shards.
        normalize: subtract the mean and divide by the standard deviation of train, per bin.
        key: give every example's key, too.
        labels: those that examples come with; None for all.
        transform: what is done to every batch, as ``make_loader`` has it.
        device: where the transform runs, as ``make_loader`` has it.
        cache: its folder is ``streamed`` in this one (default ``~/.cache/shardwell``).
        cache_bytes: most bytes in that folder, for all processes and datasets together. Eight
            shards of each rank of the machine should fit, else shards are fetched more than once.

    Raises:
        DatasetError: not a sealed dataset, or a shard is missing or cut short.
        RemoteError: the store at the URL can't be read.
        UnknownNameError: there is no such split or label.
        UsageError: a number out of its range; fewer shards than ranks; a shard larger than
            ``cache_bytes``.
    """
    sealed, kept = _opened(where, Path(cache or CACHE).expanduser(), cache_bytes)
    fetching = Fetching(kept) if kept else None
    held = fetching.held if fetching else None
    part = Dataset(sealed, normalize, key, labels, held)[split]
    shards = sealed.splits[split]
    largest = max((shard.bytes for shard in shards), default=0)
    if fetching and largest > cache_bytes:
        raise UsageError(f"cache_bytes={cache_bytes:,}: expected at least {largest:,}, one shard")
    turns = StreamTurns(
        Order(len(part), "examples" if shuffle else "none", seed),
        Batching(batch_size, drop_last=drop_last),
        ranks_of(rank, world_size),
        np.array([shard.rows for shard in shards], np.int64),
        part.identity,
    )
    streamed = _Streamed(part, shards, fetching)
    made, then = arranged(streamed, transform, part, turns.order.seed, device)
    return Loader(made, then, turns, len(part), turns.order.seed, num_workers, pin_memory)


def _opened(where: str | Path, cache: Path, most: int) -> tuple[Sealed, Cache | None]:
    """A dataset, and the cache of its shards where they must be fetched."""
    folder = cache / "streamed"
    if is_on_hub(where):
        found = find_known(where, cache)
        return found.config.sealed, Cache(partial(rebuild, found), folder, most, rebuilt=True)
    if is_url(where):
        return open_remote(where), Cache(partial(fetch_shard, where.rstrip("/")), folder, most)
    return open_sealed(Path(where)), None


class _Streamed:
    """Makes batches; has the shards that come next fetched, and gives up those that are passed."""

    def __init__(
        self, split: Split, shards: Sequence[ShardInfo], fetching: Fetching | None
    ) -> None:
        self._split, self._shards, self._fetching = split, shards, fetching
        self._near: tuple[int, ...] = ()

    def __call__(self, wanted: Wanted) -> Batch:
        if wanted.near != self._near:
            self._near = wanted.near
            self._split.keep_mapped(wanted.near)
            if self._fetching:
                self._fetching.ask([self._shards[number] for number in wanted.near])
        return self._split.batch(wanted.rows)
