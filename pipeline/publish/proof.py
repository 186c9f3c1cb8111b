"""The proof of a folder that is to be published: loaded by ``datasets``, it is the dataset."""

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.cores import usable_cores
from pipeline.dataset import NAME
from pipeline.errors import DatasetError
from pipeline.publish.config import Config, Tick
from pipeline.publish.features import decode, hf_features, stored_types
from pipeline.publish.parquet import storage
from pipeline.publish.webdataset import tar_features
from pipeline.records import ShardInfo
from pipeline.rows import Content
from pipeline.shard import read_shard

AT_ONCE = min(4, usable_cores())  # shards that are compared at a time


def check_folder(folder: Path, configs: Sequence[Config], form: str, tick: Tick) -> None:
    """Load every config with ``load_dataset`` and hold it against the shards; ticks by bytes.

    Parquet must give the features, widths, counts and every bit of every row; a tar the features
    and every key in its order. What was loaded is removed.

    Raises:
        DatasetError: ``datasets`` can't load it, or loads something else.
    """
    for config in configs:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".loaded-") as cache:
            loaded = _loaded(folder, config, cache)
            if list(loaded) != list(config.splits):
                raise DatasetError(f"{folder}: expected the splits {config.splits}, got {loaded}")
            check = _check_parquet if form == "parquet" else _check_keys
            check(folder / config.name, config, loaded, tick)


def _loaded(folder: Path, config: Config, cache: str) -> Mapping[str, Any]:
    import datasets

    with _no_bars():
        try:
            loaded: Mapping[str, Any] = datasets.load_dataset(
                str(folder), config.name, cache_dir=cache
            )
        except Exception as error:  # whatever the library may raise
            reason: BaseException = error
            while reason.__cause__ is not None:  # it hides a full disk behind its own error
                reason = reason.__cause__
            if isinstance(reason, OSError) and reason.errno:
                reason.filename = reason.filename or cache
                raise reason from None
            said = " ".join(str(reason).split())
            raise DatasetError(f"{folder}: load_dataset fails for {config.name}: {said}") from error
    return loaded


@contextmanager
def _no_bars() -> Iterator[None]:
    import datasets

    before = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not before:
            datasets.enable_progress_bars()


def _check_features(folder: Path, rows: Any, wanted: Any) -> None:
    if rows.features != wanted:
        raise DatasetError(f"{folder}: expected the features {wanted}, loaded {rows.features}")


def _check_parquet(folder: Path, config: Config, loaded: Mapping[str, Any], tick: Tick) -> None:
    sealed = config.sealed
    files = json.loads((folder / NAME).read_text(encoding="utf-8"))["published"]["files"]

    def is_right(info: ShardInfo, batches: Sequence[pa.RecordBatch]) -> bool:
        content = Content()
        for batch in batches:
            columns = {name: storage(batch.column(name)) for name in stored_types(sealed)}
            content.add(decode(columns, sealed, info.bytes))
        return content.sha256() == str(files[info.shard]["content"])

    for split, rows in loaded.items():
        _check_features(folder, rows, hf_features(sealed))
        _check_rows(folder, rows, sealed.splits[split], is_right, tick)


def _check_keys(folder: Path, config: Config, loaded: Mapping[str, Any], tick: Tick) -> None:
    sealed = config.sealed

    def is_right(info: ShardInfo, batches: Sequence[pa.RecordBatch]) -> bool:
        shard = read_shard(sealed.folder / f"{info.shard}.arrow", sealed.columns)
        keys = [key for b in batches for key in b.column("json").field("key").to_pylist()]
        return bool(keys == shard.keys.to_pylist())

    for split, rows in loaded.items():
        _check_features(folder, rows, tar_features(sealed))
        _check_rows(folder, rows, sealed.splits[split], is_right, tick)


def _check_rows(
    folder: Path,
    rows: Any,
    infos: Sequence[ShardInfo],
    is_right: Callable[[ShardInfo, Sequence[pa.RecordBatch]], bool],
    tick: Tick,
) -> None:
    """Hold what was loaded against every shard, as many at a time as are held in memory."""
    held = _by_shard(rows, infos)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        while some := list(itertools.islice(held, AT_ONCE)):
            right = pool.map(is_right, *zip(*some, strict=True))
            for (info, _), is_same in zip(some, right, strict=True):
                if not is_same:
                    raise DatasetError(
                        f"{folder}: {info.shard}: loaded other rows than its shard's"
                    )
                tick(info.bytes)


def _by_shard(
    rows: Any, infos: Sequence[ShardInfo]
) -> Iterator[tuple[ShardInfo, Sequence[pa.RecordBatch]]]:
    """What was loaded, as each shard's batches."""
    batches, rest = _batches(rows), None
    for info in infos:
        held, wanted = [], info.rows
        while wanted and (batch := rest or next(batches, None)) is not None:
            rest = batch.slice(wanted) if len(batch) > wanted else None
            held.append(batch.slice(0, wanted))
            wanted -= len(held[-1])
        yield info, held


def _batches(rows: Any) -> Iterator[pa.RecordBatch]:
    """The files that ``datasets`` made, read: its own map of them would fill the memory."""
    for file in rows.cache_files:
        with pa.OSFile(file["filename"]) as opened, pa.ipc.open_stream(opened) as stream:
            yield from stream
