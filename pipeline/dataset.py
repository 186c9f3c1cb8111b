"""Seals a directory of shards; opens and verifies a sealed one.

``dataset.json`` is written last and holds everything a reader needs: recipe, protocol, versions,
source hashes, feature definition, columns, label names, splits and their shards with sizes and
sha256, mean and variance of train, bad clips, hints. It holds no time, host or path. A directory
without it is not a dataset.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.characters import Alphabet
from pipeline.cores import usable_cores
from pipeline.declared import (
    check_alphabets,
    check_classes,
    check_columns,
    check_findings,
    check_statistics,
    check_tables,
    expect,
    is_count,
)
from pipeline.errors import DatasetError, ShardwellError, UsageError
from pipeline.features import Feature, Pixels, Tokens, Vector, Waveform, from_dict
from pipeline.files import sha256_of
from pipeline.moments import mean_and_std, merge
from pipeline.records import ShardInfo
from pipeline.shard import REMEDY, Columns, read_shard

FORMAT = 1
NAME = "dataset.json"
AT_ONCE = 4  # shards that are hashed at a time
SHARD_NAME = re.compile(r"[a-z]+-\d{5,}-of-\d{5,}")
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Sealed:
    """An opened ``dataset.json``.

    Attributes:
        folder: where the shards lie.
        info: the whole of ``dataset.json``.
        splits: split → its shards in order.
        classes: names of the class labels, by label.
        alphabets: of the labels that are characters, by label.
    """

    folder: Path
    info: Mapping[str, Any]
    feature: Feature
    columns: Columns
    splits: Mapping[str, tuple[ShardInfo, ...]]
    classes: Mapping[str, tuple[str, ...]]
    alphabets: Mapping[str, Alphabet]

    def rows(self, split: str) -> int:
        """The number of examples in a split."""
        return sum(shard.rows for shard in self.splits[split])


def target_of(sealed: Sealed) -> str | None:
    """The class label that a model would learn: the recipe's hint, or the first one."""
    classes = [name for name, kind in sealed.columns.labels.items() if kind == "class"]
    hinted = sealed.info["hints"].get("target")
    return hinted if hinted in classes else next(iter(classes), None)


def stored_as(sealed: Sealed) -> str:
    """What a dataset's features are, in a few words."""
    feature = sealed.feature
    if isinstance(feature, Waveform):
        return f"waveforms at {feature.sample_rate:,} Hz"
    if isinstance(feature, Pixels):
        return f"grey images of {feature.height}×{feature.width} pixels"
    if isinstance(feature, Vector):
        return f"grey images of {feature.height}×{feature.width} pixels, each as one vector"
    if isinstance(feature, Tokens):
        return f"sequences of tokens below {feature.vocabulary}"
    front_end = sealed.info["features"].get("front_end", "")
    return f"{sealed.columns.shape[1]} {feature.kind} bins ({front_end} front end)"


def seal(
    declaration: Mapping[str, Any],
    columns: Columns,
    classes: Mapping[str, Sequence[str]],
    sidecars: Sequence[Mapping[str, Any]],
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """The contents of ``dataset.json`` from a declaration and all its shards' sidecars in order.

    ``classes`` are names by label, and the characters of a label that is such.
    """
    named = {label: list(names) for label, names in classes.items()}
    spelt = [label for label, kind in columns.labels.items() if kind == "characters"]
    alphabets = {label: "".join(named.pop(label)) for label in spelt}
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
        "classes": named,
        **({"alphabets": alphabets} if alphabets else {}),
        "splits": splits,
        "statistics": {"split": "train", "mean": mean, "std": std},
        "findings": [finding for sidecar in sidecars for finding in sidecar["findings"]],
        "versions": sidecars[0]["versions"],
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
    except NotADirectoryError:
        raise DatasetError(f"{folder}: expected the directory of a dataset, got a file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: not readable as JSON: {error}") from None
    sealed = parse(folder, info, path)
    for shards in sealed.splits.values():
        for shard in shards:
            path = folder / f"{shard.shard}.arrow"
            check_size(path, path.stat().st_size if path.exists() else None, shard)
    return sealed


def parse(folder: Path, info: Any, path: Path | str) -> Sealed:
    """The values of a ``dataset.json`` that was read from ``path``.

    Raises:
        DatasetError: it is damaged or foreign.
    """
    found = info.get("format") if isinstance(info, dict) else None
    if found != FORMAT:
        raise DatasetError(
            f"{path}: expected format {FORMAT}, got {found!r}; "
            "prepare the dataset again, or use the version of shardwell that made it"
        )
    try:
        check_tables(info)
        check_findings(info["findings"])
        splits = _splits(info["splits"])
        columns = Columns(
            {str(name): str(kind) for name, kind in info["columns"]["labels"].items()},
            str(info["columns"]["dtype"]),
            tuple(info["columns"]["shape"]),
        )
        feature = from_dict(info["features"])
        check_columns(columns, feature)
        check_classes(columns.labels, info["classes"])
        classes = {name: tuple(names) for name, names in info["classes"].items()}
        columns = replace(columns, classes={name: len(names) for name, names in classes.items()})
        alphabets = {label: Alphabet(text) for label, text in info.get("alphabets", {}).items()}
        check_alphabets(columns.labels, alphabets)
        check_statistics(info["statistics"], feature)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        UsageError,
    ) as error:
        raise DatasetError(f"{path}: damaged: {type(error).__name__}: {error}") from None
    return Sealed(folder, info, feature, columns, splits, classes, alphabets)


def _splits(values: Mapping[str, Any]) -> dict[str, tuple[ShardInfo, ...]]:
    """The shards of every split, each once: listed twice, its examples would be served twice."""
    splits = {
        split: tuple(_shard_info(split, shard) for shard in shards)
        for split, shards in values.items()
    }
    for shards in splits.values():
        twice = [name for name, n in Counter(shard.shard for shard in shards).items() if n > 1]
        expect(not twice, f"{', '.join(twice[:3])}: listed more than once")
    return splits


def _shard_info(split: str, values: Mapping[str, Any]) -> ShardInfo:
    """A shard's entry; name and hash become paths, so they must be such as ours."""
    info = ShardInfo(**values)
    named = isinstance(info.shard, str) and SHARD_NAME.fullmatch(info.shard)
    expect(bool(named) and info.shard.startswith(f"{split}-"), f"{info.shard!r}: no shard's name")
    expect(is_count(info.rows) and is_count(info.bytes), f"{info.shard}: no counts")
    hashed = isinstance(info.sha256, str) and SHA256.fullmatch(info.sha256)
    expect(bool(hashed), f"{info.shard}: no sha256")
    return info


def check_size(path: Path | str, size: int | None, shard: ShardInfo) -> None:
    """Raise DatasetError unless a shard's file is there (``size`` is not None) and whole."""
    if size is None:
        raise DatasetError(f"{path}: the shard is missing; prepare or pull the dataset again")
    if size != shard.bytes:
        raise DatasetError(
            f"{path}: expected {shard.bytes:,} bytes, got {size:,}; prepare or pull it again"
        )


def verify(folder: Path, tick: Callable[[int], object]) -> list[str]:
    """Re-hash every shard and check its columns and rows; the problems found, none if all is well.

    ``tick`` is called with each shard's size in bytes once it is done.

    Raises:
        DatasetError: the directory can't be opened as a dataset at all.
    """
    sealed = open_sealed(folder)
    shards = [shard for shards in sealed.splits.values() for shard in shards]

    def found(shard: ShardInfo) -> list[str]:
        return _shard_problems(folder / f"{shard.shard}.arrow", shard, sealed.columns)

    problems = []
    pool = ThreadPoolExecutor(min(AT_ONCE, usable_cores()))
    try:
        for shard, own in zip(shards, pool.map(found, shards), strict=True):
            problems += own
            tick(shard.bytes)
    finally:
        pool.shutdown(cancel_futures=True)
    return problems


def _shard_problems(path: Path, shard: ShardInfo, columns: Columns) -> list[str]:
    digest = sha256_of(path)
    if digest != shard.sha256:
        return [f"{path}: expected sha256 {shard.sha256}, got {digest}; {REMEDY}"]
    try:
        rows = len(read_shard(path, columns))
    except ShardwellError as error:
        return [str(error)]
    if rows != shard.rows:
        return [f"{path}: expected {shard.rows} rows, got {rows}"]
    return []
