"""``Config``: a dataset as one of the configs of a repository, and how its files are named."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.dataset import Sealed
from pipeline.records import ShardInfo

CONFIG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
VERSION = 1  # of what is published
Tick = Callable[[int], object]  # called with the bytes of shards that are done
ENDINGS = {"parquet": "parquet", "webdataset": "tar"}


@dataclass(frozen=True)
class Config:
    """A dataset, the name of its folder in the repository, and the splits that are published."""

    name: str
    sealed: Sealed
    splits: tuple[str, ...]

    @property
    def shards(self) -> Sequence[ShardInfo]:
        """The shards of all published splits."""
        return [info for split in self.splits for info in self.sealed.splits[split]]


def data_file(config: Config, info: ShardInfo, form: str) -> str:
    """The path of a shard's file in the repository."""
    return f"{config.name}/{info.shard}.{ENDINGS[form]}"
