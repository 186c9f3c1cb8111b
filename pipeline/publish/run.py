"""``publish``: the whole walk from sealed datasets to a commit on a Hub."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UsageError
from pipeline.files import CACHE, alone
from pipeline.hub import client
from pipeline.publish.config import Config, Tick
from pipeline.publish.folder import (
    build_folder,
    check_datasets,
    configs_of,
    files_of,
)
from pipeline.publish.proof import check_folder
from pipeline.publish.upload import Target, Uploaded, check_target, upload


@dataclass(frozen=True)
class Publication:
    """What is published and where.

    Attributes:
        folders: sealed datasets of one corpus, each becoming a config.
        names: of the configs; by default the kinds of features.
        splits: those that are published; by default all.
        form: ``parquet`` or ``webdataset``.
        endpoint: of the Hub; by default ``HF_ENDPOINT``, or huggingface.co.
        may_redistribute: the person's word that the licence lets them.
        cache: where the folder is built; it is removed in the end.
    """

    folders: Sequence[Path]
    target: Target
    names: Sequence[str] = ()
    splits: Sequence[str] = ()
    form: str = "parquet"
    endpoint: str | None = None
    may_redistribute: bool = False
    cache: Path = CACHE


@dataclass(frozen=True)
class Plan:
    """What would be published: path → bytes, licence, and whether passing it on is allowed."""

    files: Mapping[str, int]
    licences: Mapping[str, str]
    allowed: bool


def publish(
    wanted: Publication, tick: Tick, show: Callable[[Plan], object], dry_run: bool = False
) -> Uploaded | None:
    """Publish sealed datasets as one commit of one repository.

    Nothing is sent before the datasets are verified, the folder is built and proven, and ``show``
    was called with the plan; a dry run ends there and never touches the network.

    Args:
        wanted: what and where.
        tick: called with the bytes of shards as they are verified, written and proven.
        show: called with the plan.
        dry_run: whether it ends with the plan; the result is None then.

    Raises:
        UsageError: the licence is not known to allow it, and nobody gave their word.
        ShardwellError: whatever else is wrong, before anything is seen on the Hub.
    """
    configs = configs_of(wanted.folders, wanted.names, wanted.splits)
    licences = {config.name: _licence(config) for config in configs}
    allowed = all(_redistribution(config) == "allowed" for config in configs)
    if not dry_run:
        if not allowed and not wanted.may_redistribute:
            raise UsageError(_refusal(configs))
        api = client(wanted.endpoint)
        seen = check_target(api, wanted.target, licences)
    check_datasets(configs, tick)
    repository = wanted.target.repository
    folder = wanted.cache.expanduser() / "publish" / repository.replace("/", "--")
    with alone(folder):
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        try:
            build_folder(folder, repository, configs, wanted.form, tick)
            check_folder(folder, configs, wanted.form, tick)
            files = files_of(folder)
            show(Plan(files, licences, allowed))
            return None if dry_run else upload(api, wanted.target, folder, files, seen)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _licence(config: Config) -> str:
    return str(config.sealed.info["corpus"].get("licence", "unknown"))


def _redistribution(config: Config) -> str:
    return str(config.sealed.info["corpus"].get("redistribution", "unknown"))


def _refusal(configs: Sequence[Config]) -> str:
    config = next(c for c in configs if _redistribution(c) != "allowed")
    said = _redistribution(config)
    return (
        f"{config.sealed.folder}: the licence is {_licence(config)!r}, passing it on is {said}; "
        "if you may, say so with --i-may-redistribute"
    )
