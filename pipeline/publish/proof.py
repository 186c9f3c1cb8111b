"""The proof of a folder that is to be published: loaded by ``datasets``, it is the dataset."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.dataset import NAME
from pipeline.errors import DatasetError
from pipeline.publish.config import Config
from pipeline.publish.features import decode, hf_features, stored_types
from pipeline.publish.folder import Tick
from pipeline.publish.parquet import storage
from pipeline.publish.rows import Content
from pipeline.publish.webdataset import tar_features
from pipeline.records import ShardInfo
from pipeline.shard import read_shard


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
            said = " ".join(str(error).split())
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
    files = json.loads((folder / NAME).read_text(encoding="utf-8"))["published"]["files"]
    for split, rows in loaded.items():
        _check_features(folder, rows, hf_features(config.sealed))
        first, table = 0, rows.data.table
        for info in config.sealed.splits[split]:
            content = _content(table.slice(first, info.rows), config, info)
            if content != files[info.shard]["content"]:
                raise DatasetError(f"{folder}: {info.shard}: loaded other rows than its shard's")
            first += info.rows
            tick(info.bytes)


def _content(table: Any, config: Config, info: ShardInfo) -> str:
    content, sealed = Content(), config.sealed
    for batch in table.to_batches():
        columns = {name: storage(batch.column(name)) for name in stored_types(sealed)}
        content.add(decode(columns, sealed, info.bytes))
    return content.sha256()


def _check_keys(folder: Path, config: Config, loaded: Mapping[str, Any], tick: Tick) -> None:
    sealed = config.sealed
    for split, rows in loaded.items():
        _check_features(folder, rows, tar_features(sealed))
        said, first = rows.data.column("json"), 0
        for info in sealed.splits[split]:
            shard = read_shard(sealed.folder / f"{info.shard}.arrow", sealed.columns)
            found = said.slice(first, info.rows).to_pylist()
            if [row["key"] for row in found] != shard.keys.to_pylist():
                raise DatasetError(f"{folder}: {info.shard}: loaded other rows than its shard's")
            first += info.rows
            tick(info.bytes)
