"""Seals a directory of shards; opens and verifies a sealed one.

``dataset.json`` is written last and holds everything a reader needs: recipe, protocol, versions,
source hashes, feature definition, columns, label names, splits and their shards with sizes and
sha256, mean and variance of train, bad clips, hints. It holds no time, host or path. A directory
without it is not a dataset.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DatasetError, FeatureError, ShardwellError
from pipeline.features import Feature, from_dict
from pipeline.moments import mean_and_std, merge
from pipeline.records import ShardInfo
from pipeline.shard import Columns, read_shard

FORMAT = 1
NAME = "dataset.json"
SHARD_NAME = re.compile(r"[a-z]+-\d{5,}-of-\d{5,}")


@dataclass(frozen=True)
class Sealed:
    """An opened ``dataset.json``.

    Attributes:
        folder: where the shards lie.
        info: the whole of ``dataset.json``.
        splits: split → its shards in order.
        classes: names of the class labels, by label.
    """

    folder: Path
    info: Mapping[str, Any]
    feature: Feature
    columns: Columns
    splits: Mapping[str, tuple[ShardInfo, ...]]
    classes: Mapping[str, tuple[str, ...]]

    def rows(self, split: str) -> int:
        """The number of examples in a split."""
        return sum(shard.rows for shard in self.splits[split])


def seal(
    declaration: Mapping[str, Any],
    columns: Columns,
    classes: Mapping[str, Sequence[str]],
    sidecars: Sequence[Mapping[str, Any]],
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """The contents of ``dataset.json`` from a declaration and all its shards' sidecars in order."""
    splits: dict[str, list[dict[str, Any]]] = {}
    for sidecar in sidecars:
        shard = {key: sidecar[key] for key in ("shard", "rows", "bytes", "sha256")}
        splits.setdefault(sidecar["shard"].partition("-")[0], []).append(shard)
    train = [s["moments"] for s in sidecars if s["shard"].startswith("train-") and s["moments"]]
    moments = merge(train)
    mean, std = mean_and_std(moments) if moments else (None, None)
    return {
        **declaration,
        **extra,
        "columns": {
            "labels": dict(columns.labels),
            "dtype": columns.dtype,
            "shape": list(columns.shape),
        },
        "classes": {name: list(names) for name, names in classes.items()},
        "splits": splits,
        "statistics": {"split": "train", "mean": mean, "std": std},
        "bad": [clip for sidecar in sidecars for clip in sidecar["bad"]],
        "versions": sidecars[0]["versions"] if sidecars else {},
    }


def open_sealed(folder: Path) -> Sealed:
    """Open a sealed dataset: reads ``dataset.json`` and checks that every shard has its size.

    Raises:
        DatasetError: not a dataset, of another format, or a shard is missing or cut short.
    """
    path = folder / NAME
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "an unfinished build" if any(folder.glob("*.arrow")) else "no dataset"
        raise DatasetError(
            f"{folder}: expected a sealed dataset with a {NAME}, got {what}; "
            "make one with: shardwell prepare RECIPE"
        ) from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: not readable as JSON: {error}") from None
    sealed = _parse(folder, info)
    for shards in sealed.splits.values():
        for shard in shards:
            _check_size(folder / f"{shard.shard}.arrow", shard)
    return sealed


def _parse(folder: Path, info: Any) -> Sealed:
    """The values of a ``dataset.json``; a damaged or foreign one is one clear error."""
    path = folder / NAME
    found = info.get("format") if isinstance(info, dict) else None
    if found != FORMAT:
        raise DatasetError(
            f"{path}: expected format {FORMAT}, got {found!r}; "
            "prepare the dataset again, or use the version of shardwell that made it"
        )
    try:
        splits = {
            split: tuple(ShardInfo(**shard) for shard in shards)
            for split, shards in info["splits"].items()
        }
        columns = Columns(
            dict(info["columns"]["labels"]),
            info["columns"]["dtype"],
            tuple(info["columns"]["shape"]),
        )
        columns.schema()
        classes = {name: tuple(names) for name, names in info["classes"].items()}
        feature = from_dict(info["features"])
    except (KeyError, TypeError, ValueError, AttributeError, FeatureError) as error:
        raise DatasetError(f"{path}: damaged: {type(error).__name__}: {error}") from None
    for shard in (s for shards in splits.values() for s in shards):
        if not SHARD_NAME.fullmatch(str(shard.shard)):
            raise DatasetError(f"{path}: not a shard's name: {shard.shard!r}")
    return Sealed(folder, info, feature, columns, splits, classes)


def _check_size(path: Path, shard: ShardInfo) -> None:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise DatasetError(f"{path}: the shard is missing; prepare the dataset again") from None
    if size != shard.bytes:
        raise DatasetError(
            f"{path}: expected {shard.bytes:,} bytes, got {size:,}; prepare the dataset again"
        )


def verify(folder: Path, tick: Callable[[int], object]) -> list[str]:
    """Re-hash every shard and check its columns and rows; the problems found, none if all is well.

    ``tick`` is called with each shard's size in bytes once it is done.

    Raises:
        DatasetError: the directory can't be opened as a dataset at all.
    """
    sealed = open_sealed(folder)
    problems = []
    for shards in sealed.splits.values():
        for shard in shards:
            path = folder / f"{shard.shard}.arrow"
            problems.extend(_shard_problems(path, shard, sealed.columns))
            tick(shard.bytes)
    return problems


def _shard_problems(path: Path, shard: ShardInfo, columns: Columns) -> list[str]:
    with path.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    if digest != shard.sha256:
        return [f"{path}: expected sha256 {shard.sha256}, got {digest}; prepare the dataset again"]
    try:
        rows = len(read_shard(path, columns))
    except ShardwellError as error:
        return [str(error)]
    if rows != shard.rows:
        return [f"{path}: expected {shard.rows} rows, got {rows}"]
    return []
