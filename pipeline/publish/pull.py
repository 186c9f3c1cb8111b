"""A published dataset back as sealed Arrow shards; nothing that a Hub says is trusted.

What it says is checked before it is used: names against patterns, sizes before anything is fetched,
hashes before anything is read, widths and counts before anything is kept. Nothing of it is ever
executed. A copy is named by the ``dataset.json`` that it was pulled by.
"""

import hashlib
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.dataset import NAME, Sealed, open_sealed
from pipeline.errors import DatasetError, ShardwellError
from pipeline.files import CACHE, alone, sha256_of, write_json
from pipeline.hub import client, hub_errors
from pipeline.publish.config import data_file
from pipeline.publish.folder import Tick
from pipeline.publish.parquet import read_parquet
from pipeline.publish.place import parse_place
from pipeline.publish.published import KIND, Published, check, check_size, published
from pipeline.records import ShardInfo
from pipeline.rows import content_of, pieces
from pipeline.shard import read_shard, write_shard

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def pull(where: str, out: Path, endpoint: str | None = None, tick: Tick = lambda n: None) -> Path:
    """Bring a published dataset to ``<out>/<user>/<name>/<config>-<8 hex>`` as sealed shards.

    The features, keys and labels are those that were published, to the bit. What is there already
    is proven again and kept. ``tick`` is called with the bytes of each finished shard.

    Raises:
        UsageError: ``where`` is no place, or has several configs and names none.
        RemoteError: the Hub can't be read.
        DatasetError: what is there is not what its ``dataset.json`` says, or not from shardwell.
    """
    place, api = parse_place(where), client(endpoint)
    with hub_errors(f"{api.endpoint}/datasets/{place.repository}"):
        found = published(api, place)
        version = hashlib.sha256(found.data).hexdigest()[:8]
        folder = out.expanduser() / place.repository / f"{found.config.name}-{version}"
        with alone(folder):
            if not (folder / NAME).exists():
                _rebuild(api, found, folder, tick)
    open_sealed(folder)
    return folder


def bring_from_hub(where: str, cache: Path | None) -> Path:
    """The local copy of a published dataset, for ``open_dataset``: see ``pull``."""
    return pull(where, (cache or CACHE) / "hub")


def _rebuild(api: "HfApi", found: Published, folder: Path, tick: Tick) -> None:
    """Every shard, then ``dataset.json``: without it the folder is no dataset."""
    sealed, downloads = found.config.sealed, folder / ".downloads"
    infos: dict[str, list[dict[str, Any]]] = {}
    for split, shards in sealed.splits.items():
        infos[split] = []
        for info in shards:
            path = folder / f"{info.shard}.arrow"
            content = found.files[info.shard]["content"]
            if not _is_whole(path, sealed, content):
                file = _fetch(api, found, info, downloads)
                _write(path, sealed, info, file)
                file.unlink()
                got = _content(path, sealed)
                if got != content:
                    path.unlink()
                check(info.shard, "rows with the hash", content, got)
            size, digest = path.stat().st_size, sha256_of(path)
            infos[split].append(asdict(ShardInfo(info.shard, info.rows, size, digest)))
            tick(info.bytes)
    shutil.rmtree(downloads, ignore_errors=True)
    kept = {name: value for name, value in sealed.info.items() if name != "published"}
    write_json(folder / NAME, {**kept, "splits": infos})


def _fetch(api: "HfApi", found: Published, info: ShardInfo, downloads: Path) -> Path:
    """A shard's file, with the promised size and hash; an interrupted download goes on."""
    path, promised = data_file(found.config, info, "parquet"), found.files[info.shard]
    check_size(api, found.place, found.commit, path, promised["bytes"])
    file = Path(
        api.hf_hub_download(
            found.place.repository,
            path,
            repo_type=KIND,
            revision=found.commit,
            local_dir=downloads,
        )
    )
    try:
        check(path, "sha256", promised["sha256"], sha256_of(file))
    except DatasetError:
        file.unlink()
        raise
    return file


def _write(path: Path, sealed: Sealed, info: ShardInfo, file: Path) -> None:
    held = list(read_parquet(file, sealed, info))
    labels = {
        name: [value for rows in held for value in rows.labels[name].to_pylist()]
        for name in sealed.columns.labels
    }
    keys = [key for rows in held for key in rows.keys.to_pylist()]
    features = [features for rows in held for features in rows.features()]
    write_shard(path, sealed.columns, keys, labels, features)


def _content(path: Path, sealed: Sealed) -> str:
    return content_of(pieces(read_shard(path, sealed.columns), sealed.columns))


def _is_whole(path: Path, sealed: Sealed, content: str) -> bool:
    """Whether a run that was interrupted left this shard, and it is the right one."""
    try:
        return path.exists() and _content(path, sealed) == content
    except ShardwellError:
        return False
