"""What a repository says that it holds, checked as far as it can be without its data."""

import json
import re
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.dataset import NAME, parse
from pipeline.errors import DatasetError, UsageError, unknown_name
from pipeline.hub import KIND, client, hub_errors
from pipeline.publish.config import CONFIG_NAME, ENDINGS, VERSION, Config, data_file
from pipeline.publish.place import Place, parse_place

if TYPE_CHECKING:
    from huggingface_hub import HfApi

LARGEST_JSON, LARGEST_SHARD = 1 << 26, 1 << 33
SHA256, COMMIT = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Published:
    """What a repository says that it holds, as far as that can be checked without its data.

    Attributes:
        endpoint: of the Hub.
        commit: of the repository; all files are taken from it.
        config: the dataset; ``sealed.folder`` is a name for messages.
        form: ``parquet`` or ``webdataset``.
        files: shard → bytes, sha256 and content of its file.
        data: the bytes of its ``dataset.json``.
    """

    endpoint: str
    place: Place
    commit: str
    config: Config
    form: str
    files: Mapping[str, Mapping[str, Any]]
    data: bytes

    @property
    def url(self) -> str:
        """The repository's page."""
        return f"{self.endpoint}/datasets/{self.place.repository}"


def find(where: str, endpoint: str | None = None) -> Published:
    """Find a published dataset, check what its ``dataset.json`` says and that its files are there.

    Raises:
        UsageError: ``where`` is no place, or has several configs and names none.
        RemoteError: the Hub can't be read.
        DatasetError: no dataset of shardwell's, or one that says what can't be, or lacks a file.
    """
    place, api = parse_place(where), client(endpoint)
    with hub_errors(f"{api.endpoint}/datasets/{place.repository}"):
        info = api.dataset_info(place.repository, revision=place.revision)
        commit = str(info.sha)
        _check_commit(place, commit)
        name = _chosen(place, [file.rfilename for file in info.siblings or ()])
        sizes = _sizes(api, place, commit, name)
        data = _json(api, place, commit, f"{name}/{NAME}", sizes)
    found = parse_published(api.endpoint, place, commit, name, data)
    for shard in found.config.shards:
        path = data_file(found.config, shard, found.form)
        size = found.files[shard.shard]["bytes"]
        check(f"{place.repository}/{path}", "bytes", size, sizes.get(path))
    return found


def parse_published(endpoint: str, place: Place, commit: str, name: str, data: bytes) -> Published:
    """What a config's ``dataset.json`` says, checked but for whether its files are there.

    Raises:
        DatasetError: no dataset of shardwell's, or one that says what can't be.
    """
    _check_commit(place, commit)
    source = f"{endpoint}/datasets/{place.repository}/{name}/{NAME}"
    try:
        values = json.loads(data.decode("utf-8"))  # of bytes it would take UTF-16, too
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{source}: not readable as JSON: {error}") from None
    sealed = parse(Path(place.repository, name), values, source)
    config = Config(name, sealed, tuple(sealed.splits))
    form, files = _files(values, config, source)
    return Published(endpoint, place, commit, config, form, files, data)


def _check_commit(place: Place, commit: str) -> None:
    if not COMMIT.fullmatch(commit):  # the client makes a path of it
        raise DatasetError(
            f"{place.repository}: expected a commit of 40 hex digits, got {commit!r}"
        )


def _chosen(place: Place, paths: Iterable[str]) -> str:
    """The place's config, or the only one."""
    ending = f"/{NAME}"
    names = [path.removesuffix(ending) for path in paths if path.endswith(ending)]
    configs = [name for name in names if CONFIG_NAME.fullmatch(name)]
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


def _sizes(api: "HfApi", place: Place, commit: str, folder: str) -> dict[str, int]:
    """The files of a config: path → bytes."""
    found = api.list_repo_tree(place.repository, folder, repo_type=KIND, revision=commit)
    return {entry.path: entry.size for entry in found if hasattr(entry, "size")}


def _json(api: "HfApi", place: Place, commit: str, path: str, sizes: Mapping[str, int]) -> bytes:
    size = sizes.get(path)
    if size is None or size > LARGEST_JSON:
        raise DatasetError(f"{path}: expected at most {LARGEST_JSON:,} bytes, got {size}")
    file = Path(api.hf_hub_download(place.repository, path, repo_type=KIND, revision=commit))
    check(path, "bytes", size, file.stat().st_size)
    return file.read_bytes()


def _files(values: Mapping[str, Any], config: Config, where: str) -> tuple[str, Mapping[str, Any]]:
    """The format, and shard → its file's bytes, sha256 and content, for exactly its shards."""
    entries = values.get("published")
    if not isinstance(entries, dict) or entries.get("version") != VERSION:
        raise DatasetError(f"{where}: published by another version of shardwell")
    form = str(entries.get("format"))
    if form not in ENDINGS:
        raise DatasetError(f"{where}: expected the format {' or '.join(ENDINGS)}, got {form!r}")
    files = entries.get("files")
    shards = sorted(info.shard for info in config.shards)
    own = isinstance(files, dict) and sorted(files) == shards and all(map(_is_file, files.values()))
    if not own or any(info.bytes > LARGEST_SHARD for info in config.shards):
        raise DatasetError(f"{where}: damaged: published files that are not its shards'")
    return form, typing.cast("Mapping[str, Any]", files)


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
