"""What a build would take, without building: clips, hours, shards, bytes, disk."""

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.archive import inflated_before, plain_path
from pipeline.fetch import Verified, at_hand, still_missing
from pipeline.manifest import Source
from pipeline.plan import shard_count
from pipeline.prepare.checks import disk_errors_in_one_line
from pipeline.prepare.files import (
    fitted,
    generated_at_hand,
    hashes_of,
    open_all,
    own_files,
    settled,
)
from pipeline.prepare.output import Prepared, find, output_of
from pipeline.prepare.request import Request, Resolved, resolve
from pipeline.prepare.run import make_plan


@dataclass(frozen=True)
class Estimate:
    """What a build would take; ``None`` where it can't be known before the sources are here.

    Attributes:
        rows: examples per split.
        hours: of audio, reckoned from bytes as 16-bit mono at the recordings' rate.
        shards: files to write.
        download: bytes still to be downloaded.
        inflated: bytes of plain copies of compressed sources still to be written.
        features: bytes of all shards.
        found: the dataset, where it is there already: nothing is left to do.
        exact: whether counts and bytes were looked up in the inflated sources, or reckoned from
            the manifest.
    """

    rows: Mapping[str, int | None]
    hours: float | None
    shards: int | None
    download: int
    inflated: int | None
    features: int | None
    exact: bool
    found: Prepared | None = None

    @property
    def disk(self) -> int | None:
        """Bytes that will be needed on disk in all."""
        if self.inflated is None or self.features is None:
            return None
        return self.download + self.inflated + self.features


def estimate(request: Request) -> Estimate:
    """Reckon what ``prepare_dataset(request)`` would take. Downloads, inflates and builds nothing.

    Exact for sources whose plain bytes are at hand; else from what the manifest tells.
    """
    resolved = settled(resolve(request))
    with disk_errors_in_one_line():
        files = {role: _at_hand(resolved, source) for role, source in resolved.sources.items()}
        here = {role: file for role, file in files.items() if file is not None}
        found = _found(resolved, here)
        if found:
            return Estimate(found.rows, None, 0, 0, 0, 0, exact=True, found=found)
        if len(here) == len(files) and all(_is_plain(f, resolved) for f in here.values()):
            return _from_plan(resolved, here)
        return _from_manifest(resolved, files)


def _at_hand(resolved: Resolved, source: Source) -> Verified | None:
    if source.own:
        return own_files(resolved, source)
    if source.generated:
        return generated_at_hand(resolved, source)
    request = resolved.request
    return at_hand(source, resolved.cache, resolved.given(source), request.progress)


def _found(resolved: Resolved, here: Mapping[str, Verified]) -> Prepared | None:
    """The dataset, if it is there already; what a missing generated source gives is not known."""
    if any(source.generated and role not in here for role, source in resolved.sources.items()):
        return None
    declaration = resolved.declaration(hashes_of(resolved, here))
    return find(resolved, declaration, output_of(resolved, declaration))


def _is_plain(file: Verified, resolved: Resolved) -> bool:
    if file.members is not None:
        return True
    if plain_path(file.path, file.sha256, resolved.cache) == file.path:
        return True
    return inflated_before(file.sha256, resolved.cache) is not None


def _from_plan(resolved: Resolved, files: Mapping[str, Verified]) -> Estimate:
    with tempfile.TemporaryDirectory() as folder:
        opened = open_all(resolved, files)
        plan = make_plan(fitted(resolved, opened), opened, Path(folder) / "plan.arrow")
    hours = plan.seconds / 3600 if resolved.audio else None
    return Estimate(plan.rows, hours, len(plan.tasks), 0, 0, plan.nbytes, exact=True)


def _from_manifest(resolved: Resolved, files: Mapping[str, Verified | None]) -> Estimate:
    """What promised counts and sizes tell where the sources can't be looked into yet."""
    sources = resolved.sources
    missing = [sources[role] for role, file in files.items() if file is None]
    download = sum(still_missing(s, resolved.cache) for s in missing if not s.generated)
    sizes = [source.bytes if source.generated else source.inflated for source in sources.values()]
    inflated = None if None in sizes else sum(size or 0 for size in sizes)
    rows, audio = resolved.promised, resolved.audio
    counts = [n for n in rows.values() if n is not None]
    clips = sum(counts) if len(counts) == len(rows) else None
    samples = inflated // 2 if audio and inflated else None
    recorded = resolved.recorded_rate
    hours = samples / recorded / 3600 if recorded and samples else None
    if audio and recorded and samples:
        samples = samples * audio.sample_rate // recorded
    if audio and audio.n_samples and clips:
        samples = clips * audio.n_samples
    features = _feature_bytes(resolved, clips, samples)
    shards = None
    if features is not None and clips:
        shards = sum(shard_count(features * n // clips) for n in counts)
    return Estimate(rows, hours, shards, download, inflated, features, exact=False)


def _feature_bytes(resolved: Resolved, clips: int | None, samples: int | None) -> int | None:
    """Bytes of all features: of so many examples of one shape, or of so many samples in all."""
    shape, itemsize = resolved.columns.shape, np.dtype(resolved.columns.dtype).itemsize
    if None not in shape:
        return None if clips is None else clips * itemsize * math.prod(n or 0 for n in shape)
    if samples is None:
        return None
    whole = resolved.feature.shape(samples)
    return itemsize * math.prod(n or 0 for n in whole)
