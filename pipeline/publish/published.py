"""What a repository says that it holds, checked as far as it can be without its data."""

import json
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.dataset import NAME, parse
from pipeline.errors import DatasetError, UsageError, unknown_name
from pipeline.publish.config import Config
from pipeline.publish.folder import CONFIG_NAME, VERSION
from pipeline.publish.place import Place

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LARGEST_JSON, LARGEST_SHARD = 1 << 28, 1 << 33
SHA256, COMMIT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
KIND = "dataset"


@dataclass(frozen=True)
class Published:
    """What a repository says that it holds, as far as that can be checked without its data.

    Attributes:
        commit: of the repository; all files are taken from it.
        config: the dataset; ``sealed.folder`` is a name for messages.
        files: shard → bytes, sha256 and content of its file.
        data: the bytes of its ``dataset.json``.
    """

    place: Place
    commit: str
    config: Config
    files: Mapping[str, Mapping[str, Any]]
    data: bytes


def published(api: "HfApi", place: Place) -> Published:
    """Find the config of a place and check what its ``dataset.json`` says.

    Raises:
        UsageError: there are several configs and the place names none.
        DatasetError: no dataset of shardwell's, or one that says what can't be.
    """
    info = api.dataset_info(place.repository, revision=place.revision)
    commit, ending = str(info.sha), f"/{NAME}"
    if not COMMIT.fullmatch(commit):  # the client makes a path of it
        raise DatasetError(
            f"{place.repository}: expected a commit of 40 hex digits, got {commit!r}"
        )
    paths = [file.rfilename for file in info.siblings or ()]
    configs = [p.removesuffix(ending) for p in paths if p.endswith(ending) and p.count("/") == 1]
    name = _chosen(place, [config for config in configs if CONFIG_NAME.fullmatch(config)])
    data = _json(api, place, commit, f"{name}/{NAME}")
    where = f"{api.endpoint}/datasets/{place.repository}/{name}/{NAME}"
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{where}: not readable as JSON: {error}") from None
    sealed = parse(Path(name), values, where)
    named = {label for label, kind in sealed.columns.labels.items() if kind == "class"}
    if set(sealed.classes) != named:
        raise DatasetError(f"{where}: damaged: classes of labels that it has not")
    config = Config(name, sealed, tuple(sealed.splits))
    return Published(place, commit, config, _files(values, config, where), data)


def _chosen(place: Place, configs: list[str]) -> str:
    if place.config is not None:
        if place.config not in configs:
            raise unknown_name(f"config of {place.repository}", place.config, configs)
        return place.config
    if not configs:
        raise DatasetError(f"{place.repository}: holds no dataset of shardwell (no {NAME} in it)")
    if len(configs) > 1:
        raise UsageError(
            f"{place.repository}: holds the configs {', '.join(configs)}; "
            f"take one: {place.repository}:{configs[0]}"
        )
    return configs[0]


def _json(api: "HfApi", place: Place, commit: str, path: str) -> bytes:
    check_size(api, place, commit, path, None)
    file = api.hf_hub_download(place.repository, path, repo_type=KIND, revision=commit)
    return Path(file).read_bytes()


def check_size(api: "HfApi", place: Place, commit: str, path: str, size: int | None) -> None:
    """The size of a file, before it is fetched: as promised, or small."""
    found = api.get_paths_info(place.repository, [path], repo_type=KIND, revision=commit)
    got = getattr(found[0], "size", None) if found else None
    if got is None or (size is None and got > LARGEST_JSON):
        raise DatasetError(f"{path}: expected a file of moderate size, got {got} bytes")
    if size is not None:
        check(path, "bytes", size, got)


def _files(values: Mapping[str, Any], config: Config, where: str) -> Mapping[str, Any]:
    """Shard → its file's bytes, sha256 and content, for exactly the shards of the dataset."""
    entries = values.get("published")
    if not isinstance(entries, dict) or entries.get("version") != VERSION:
        raise DatasetError(f"{where}: published by another version of shardwell")
    if entries.get("format") != "parquet":
        raise DatasetError(
            f"{where}: published as {entries.get('format')!r}, which is not for pulling; "
            "publish it as parquet"
        )
    files = entries.get("files")
    shards = sorted(info.shard for info in config.shards)
    own = isinstance(files, dict) and sorted(files) == shards and all(map(_is_file, files.values()))
    if not own or any(info.bytes > LARGEST_SHARD for info in config.shards):
        raise DatasetError(f"{where}: damaged: published files that are not its shards'")
    return typing.cast("Mapping[str, Any]", files)


def _is_file(entry: Any) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("bytes"), int)
        and all(SHA256.fullmatch(str(entry.get(name))) for name in ("sha256", "content"))
    )


def check(what: str, of: str, expected: Any, got: Any) -> None:
    """Raise DatasetError unless what is there is what was promised."""
    if expected != got:
        raise DatasetError(
            f"{what}: expected {of} {expected}, got {got}; it was changed or damaged on the Hub"
        )
