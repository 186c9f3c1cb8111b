"""What a build would take, without building: clips, hours, shards, bytes, disk."""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.archive import inflate, plain_path
from pipeline.fetch import Verified, at_hand
from pipeline.plan import shard_count
from pipeline.prepare.request import Request, Resolved, resolve
from pipeline.prepare.run import generated_files, make_plan, open_all


@dataclass(frozen=True)
class Estimate:
    """What a build would take; ``None`` where it can't be known before the sources are here.

    Attributes:
        rows: examples per split.
        hours: of audio.
        shards: files to write.
        download: bytes still to be downloaded.
        inflated: bytes of plain copies of compressed sources still to be written.
        features: bytes of all shards.
    """

    rows: Mapping[str, int | None]
    hours: float | None
    shards: int | None
    download: int
    inflated: int | None
    features: int | None

    @property
    def disk(self) -> int | None:
        """Bytes that will be needed on disk in all."""
        if self.inflated is None or self.features is None:
            return None
        return self.download + self.inflated + self.features


def estimate(request: Request) -> Estimate:
    """Reckon what ``prepare_dataset(request)`` would take. Downloads and builds nothing.

    Exact for sources whose plain bytes are at hand; else from the protocol's promised counts.
    """
    resolved = resolve(request)
    files = generated_files(resolved)
    download = 0
    for role, source in resolved.sources.items():
        if role in files:
            continue
        found = at_hand(source, resolved.cache, resolved.given(source), request.progress)
        if found is None:
            download += source.bytes or 0
        else:
            files[role] = found
    missing = len(files) < len(resolved.sources)
    to_inflate = [f for f in files.values() if not _plain(f, resolved).exists()]
    if missing or to_inflate:
        inflated = None if missing else sum(_plain_bytes(file) for file in to_inflate)
        return _from_promises(resolved, download, inflated)
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(resolved, open_all(resolved, files), Path(folder) / "plan.arrow")
    hours = plan.seconds / 3600 if resolved.audio else None
    return Estimate(plan.rows, hours, len(plan.tasks), 0, 0, plan.nbytes)


def _plain(file: Verified, resolved: Resolved) -> Path:
    return plain_path(file.path, file.sha256, resolved.cache)


def _plain_bytes(file: Verified) -> int:
    """The size of a compressed file's plain bytes: inflated once, kept nowhere."""
    sizes: list[int] = []
    inflate(file.path, lambda chunk: sizes.append(len(chunk)), lambda done: None)
    return sum(sizes)


def _from_promises(resolved: Resolved, download: int, inflated: int | None) -> Estimate:
    """What the promised counts tell where the sources can't be looked into yet."""
    rows = resolved.promised
    shape = [n for n in resolved.columns.shape if n is not None]
    counts = [n for n in rows.values() if n is not None]
    if len(counts) < len(rows) or len(shape) < len(resolved.columns.shape):
        return Estimate(rows, None, None, download, inflated, None)
    row_bytes = math.prod(shape) * np.dtype(resolved.columns.dtype).itemsize
    shards = sum(shard_count(n * row_bytes) for n in counts)
    return Estimate(rows, None, shards, download, inflated, sum(counts) * row_bytes)
