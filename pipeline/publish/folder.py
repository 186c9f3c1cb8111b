"""The folder that is published: one config per dataset, a README, and ``dataset.json`` in each.

    README.md
    <config>/dataset.json, <config>/examples.png
    <config>/<split>-00000-of-000NN.parquet        one file per shard, or .tar

``dataset.json`` is the dataset's own, of the published splits, with one entry more: ``published``
holds the format and, per shard, its file's bytes and sha256 and the hash of its rows.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.dataset import NAME, Sealed, open_sealed, verify
from pipeline.errors import DatasetError, UsageError, unknown_name
from pipeline.files import sha256_of, write_json, written
from pipeline.publish.card import card
from pipeline.publish.config import Config, data_file
from pipeline.publish.features import check_names, hf_features
from pipeline.publish.parquet import read_parquet, write_parquet
from pipeline.publish.pictures import picture
from pipeline.publish.rows import content_of, pieces
from pipeline.publish.webdataset import tar_features, write_webdataset
from pipeline.records import ShardInfo
from pipeline.shard import read_shard

WRITERS = {"parquet": write_parquet, "webdataset": write_webdataset}
CONFIG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
VERSION = 1
Tick = Callable[[int], object]


def configs_of(
    folders: Sequence[Path], names: Sequence[str] = (), splits: Sequence[str] = ()
) -> list[Config]:
    """Datasets as configs of one repository, by default named by their kind of features.

    Raises:
        DatasetError: a folder is no sealed dataset.
        UsageError: two configs of one name, a name that is none, an unknown split.
    """
    if names and len(names) != len(folders):
        raise UsageError(f"{len(names)} names of configs for {len(folders)} datasets")
    found: dict[str, Config] = {}
    for i, folder in enumerate(folders):
        sealed = open_sealed(folder)
        check_names(sealed)
        name = names[i] if names else sealed.feature.kind
        if not CONFIG_NAME.fullmatch(name):
            raise UsageError(f"config {name!r}: expected letters, digits, _ - and .")
        if name in found:
            raise UsageError(
                f"{found[name].sealed.folder} and {folder} would both be config {name!r}: "
                "name each with --config"
            )
        for split in splits:
            if split not in sealed.splits:
                raise unknown_name(f"split of {folder}", split, sealed.splits)
        chosen = tuple(split for split in sealed.splits if not splits or split in splits)
        found[name] = Config(name, sealed, chosen)
    return list(found.values())


def check_datasets(configs: Sequence[Config], tick: Tick) -> None:
    """Raise DatasetError unless every shard is still what was sealed; ticks by bytes."""
    for config in configs:
        problems = verify(config.sealed.folder, tick)
        if problems:
            raise DatasetError(problems[0])


def build_folder(
    folder: Path, repository: str, configs: Sequence[Config], form: str, tick: Tick
) -> None:
    """Write everything that is published; ticks by shards' bytes.

    Raises:
        UsageError: there is no such format.
    """
    if form not in WRITERS:
        raise unknown_name("format", form, WRITERS)
    for config in configs:
        hf_features(config.sealed)  # imports what the threads need
        _write_config(folder, config, form, tick)
    with written(folder / "README.md") as temporary:
        temporary.write_text(card(repository, configs, form), encoding="utf-8")


def _write_config(folder: Path, config: Config, form: str, tick: Tick) -> None:
    def entry(info: ShardInfo) -> tuple[str, dict[str, Any]]:
        path = folder / data_file(config, info, form)
        WRITERS[form](path, config.sealed, info)
        shard = read_shard(config.sealed.folder / f"{info.shard}.arrow", config.sealed.columns)
        content = content_of(pieces(shard, config.sealed.columns))
        tick(info.bytes)
        size = path.stat().st_size
        return info.shard, {"bytes": size, "sha256": sha256_of(path), "content": content}

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        files = dict(pool.map(entry, config.shards))
    info = dict(config.sealed.info)
    info["splits"] = {split: info["splits"][split] for split in config.splits}
    info["published"] = {"version": VERSION, "format": form, "files": files}
    write_json(folder / config.name / NAME, info)
    shown = picture(config)
    if shown:
        with written(folder / config.name / "examples.png") as temporary:
            temporary.write_bytes(shown)


def files_of(folder: Path) -> dict[str, int]:
    """What the folder holds: path in the repository → bytes, sorted."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    return dict(
        sorted((n, s) for n, s in names.items() if not n.rpartition("/")[2].startswith("."))
    )


def check_folder(folder: Path, configs: Sequence[Config], form: str, tick: Tick) -> None:
    """Prove that a folder holds its datasets, for us and for ``load_dataset``; ticks by bytes.

    Raises:
        DatasetError: a file of it differs from its shard, or ``datasets`` can't load it.
    """
    for config in configs:
        info = json.loads((folder / config.name / NAME).read_text(encoding="utf-8"))
        files: Mapping[str, Any] = info["published"]["files"]
        for shard in config.shards if form == "parquet" else ():
            path = folder / data_file(config, shard, form)
            if (
                content_of(read_parquet(path, config.sealed, shard))
                != files[shard.shard]["content"]
            ):
                raise DatasetError(f"{path}: not the rows of its shard")
            tick(shard.bytes)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".loaded-") as cache:
        for config in configs:
            _check_load(folder, config, form, Path(cache))


def _check_load(folder: Path, config: Config, form: str, cache: Path) -> None:
    """``load_dataset`` of the folder must give the features, and every key in its order."""
    import datasets

    wanted = hf_features(config.sealed) if form == "parquet" else tar_features(config.sealed)
    shown = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(str(folder), config.name, cache_dir=str(cache))
    except Exception as error:  # whatever the library may raise
        said = " ".join(str(error).split())
        raise DatasetError(f"{folder}: load_dataset fails for {config.name}: {said}") from error
    finally:
        if not shown:
            datasets.enable_progress_bars()
    if set(loaded) != set(config.splits):
        raise DatasetError(f"{folder}: expected the splits {config.splits}, loaded {list(loaded)}")
    for split, rows in loaded.items():
        if rows.features != wanted:
            raise DatasetError(f"{folder}: {config.name}: loaded as {rows.features}")
        columns = (
            batch["key"] if form == "parquet" else [row["key"] for row in batch["json"]]
            for batch in _batches(rows, form)
        )
        keys = [key for column in columns for key in column]
        if keys != list(_keys(config.sealed, config.sealed.splits[split])):
            raise DatasetError(f"{folder}: {config.name}/{split}: loaded other rows than it has")
    shutil.rmtree(cache, ignore_errors=True)


def _batches(rows: Any, form: str) -> Iterator[Any]:
    keys = rows.select_columns(["key" if form == "parquet" else "json"])
    return (keys[first : first + 1000] for first in range(0, len(keys), 1000))


def _keys(sealed: Sealed, shards: Sequence[ShardInfo]) -> Iterator[str]:
    for info in shards:
        yield from read_shard(
            sealed.folder / f"{info.shard}.arrow", sealed.columns
        ).keys.to_pylist()
