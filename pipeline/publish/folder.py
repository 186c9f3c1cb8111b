"""The folder that is published: one config per dataset, a README, and ``dataset.json`` in each.

    README.md
    <config>/dataset.json, <config>/examples.png
    <config>/<split>-00000-of-000NN.parquet        one file per shard, or .tar

``dataset.json`` is the dataset's own, of the published splits, with one entry more: ``published``
holds the format and, per shard, its file's bytes and sha256 and the hash of its rows.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.cores import usable_cores
from pipeline.dataset import NAME, open_sealed, verify
from pipeline.errors import DatasetError, UsageError, unknown_name
from pipeline.files import sha256_of, write_json, written
from pipeline.publish.card import FEATURES, card
from pipeline.publish.config import CONFIG_NAME, VERSION, Config, Tick, data_file
from pipeline.publish.features import check_names
from pipeline.publish.parquet import write_parquet
from pipeline.publish.pictures import picture
from pipeline.publish.webdataset import write_webdataset
from pipeline.records import ShardInfo
from pipeline.rows import content_of, pieces
from pipeline.shard import read_shard

WRITERS = {"parquet": write_parquet, "webdataset": write_webdataset}


def configs_of(
    folders: Sequence[Path], names: Sequence[str] = (), splits: Sequence[str] = ()
) -> list[Config]:
    """Datasets as configs of one repository, by default named by their kind of features.

    Raises:
        DatasetError: a folder is no sealed dataset.
        UsageError: several corpora, two configs of one name, a name that is none, an unknown split.
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
    corpora = {config.sealed.info["recipe"].get("name") for config in found.values()}
    if len(corpora) > 1:
        raise UsageError(
            f"{' and '.join(sorted(map(str, corpora)))} are several corpora: "
            "each has a licence and a page of its own, publish one at a time"
        )
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
        FEATURES[form](config.sealed)  # imports and finds what the threads need
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

    with ThreadPoolExecutor(min(4, usable_cores())) as pool:
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
