"""Shards that come next, fetched to the cache while batches are made of those that are there."""

import contextlib
import os
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from itertools import accumulate
from pathlib import Path
from queue import SimpleQueue

from pipeline import cache
from pipeline.cache import Cache
from pipeline.records import ShardInfo
from pipeline.remote import AT_ONCE

Asked = SimpleQueue[tuple[ShardInfo, Future[None]] | None]


class Fetching:
    """Fetches what a process needs next, by threads that start when it first asks.

    So none is there before a fork; a process that was forked later starts its own.
    """

    def __init__(self, where: Cache) -> None:
        self._cache = where
        self._process = 0  # whose threads they are
        self._coming: dict[str, Future[None]] = {}

    def __reduce__(self) -> tuple[type["Fetching"], tuple[Cache]]:
        return Fetching, (self._cache,)

    def ask(self, shards: Sequence[ShardInfo]) -> None:
        """Have these fetched in their order, as far as the cache can hold them, and no others."""
        if self._process != os.getpid():
            self._start()
        ends = accumulate(shard.bytes for shard in shards)
        wanted = {
            shard.shard: shard
            for shard, end in zip(shards, ends, strict=True)
            if end <= self._cache.most
        }
        cache.touch(self._cache, [*wanted.values()])
        for name in self._coming.keys() - wanted.keys():
            self._coming.pop(name).cancel()
        for name, shard in wanted.items():
            if name not in self._coming:
                self._coming[name] = Future()
                self._asked.put((shard, self._coming[name]))

    @contextlib.contextmanager
    def held(self, shard: ShardInfo) -> Iterator[Path]:
        """``cache.held`` of a shard; what went wrong while it was fetched ahead is raised here."""
        coming = self._coming.get(shard.shard) if self._process == os.getpid() else None
        if coming:
            try:
                coming.result()
            except BaseException:
                del self._coming[shard.shard]  # who tries again begins anew
                raise
        with cache.held(self._cache, shard) as path:
            yield path

    def _start(self) -> None:
        self._process, self._coming, self._asked = os.getpid(), {}, Asked()
        for _ in range(AT_ONCE):
            # A daemon: nobody who wants to end waits for a download that is no longer wanted.
            work = threading.Thread(target=_work, args=(self._cache, self._asked), daemon=True)
            work.start()
        weakref.finalize(self, _end, self._process, self._coming, self._asked)


def _work(where: Cache, asked: Asked) -> None:
    """Until it is told to end. An error belongs to who waits for the shard."""
    while next_one := asked.get():
        shard, coming = next_one
        if coming.set_running_or_notify_cancel():
            try:
                with cache.held(where, shard):
                    pass
            except BaseException as error:
                coming.set_exception(error)
            else:  # with the lock given back, so that who waits need not wait for that, too
                coming.set_result(None)


def _end(process: int, coming: Mapping[str, Future[None]], asked: Asked) -> None:
    if process != os.getpid():  # the copy in a fork, whose locks may be held by nobody for ever
        return
    for future in coming.values():
        future.cancel()
    for _ in range(AT_ONCE):
        asked.put(None)
