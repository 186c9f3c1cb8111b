"""Sealed datasets of any features and labels, made without preparing anything; what they hold."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.dataset import FORMAT, NAME, seal
from pipeline.features import Feature, LogMel, Mfcc, Waveform, to_dict
from pipeline.files import sha256_of, write_json
from pipeline.moments import of_values
from pipeline.records import ShardInfo
from pipeline.shard import Columns, read_shard, write_shard

if TYPE_CHECKING:
    from pipeline.loader import Split

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Made:
    """A dataset to be written: rows are (key, labels by name, features)."""

    feature: Feature
    labels: Mapping[str, str]
    splits: Mapping[str, Sequence[tuple[str, Mapping[str, Any], npt.NDArray[Any]]]]
    classes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    findings: Sequence[Mapping[str, Any]] = ()
    fixed: bool = False
    shards: int = 1
    hints: Mapping[str, str] = field(default_factory=dict)
    corpus: Mapping[str, str] = field(default_factory=dict)
    statistics: bool = True


def write_made(folder: Path, made: Made) -> Path:
    """Write and seal it."""
    folder.mkdir()
    first = next((rows[0][2] for rows in made.splits.values() if rows), None)
    length = len(first) if made.fixed and first is not None else None
    shape = (length, *made.feature.shape(None)[1:])
    columns = Columns(made.labels, made.feature.dtype, shape)
    sidecars = []
    for split, rows in made.splits.items():
        edges = np.linspace(0, len(rows), made.shards + 1).astype(int).tolist()
        for i, (begin, end) in enumerate(pairwise(edges)):
            name, part = f"{split}-{i:05d}-of-{made.shards:05d}", rows[begin:end]
            path, values = folder / f"{name}.arrow", [features for *_, features in part]
            labels = {label: [row[1][label] for row in part] for label in made.labels}
            write_shard(path, columns, [key for key, *_ in part], labels, values)
            info = ShardInfo(name, len(part), path.stat().st_size, sha256_of(path))
            bins = made.feature.bins if made.statistics else 0
            moments = of_values(values, bins).to_dict() if bins else None
            sidecars.append(asdict(info) | {"moments": moments, "findings": [], "versions": {}})
    declaration = {
        "format": FORMAT,
        "recipe": {"name": "bench", "version": 1},
        "protocol": {"name": "all", "params": {}},
        "features": to_dict(made.feature),
    }
    extra = {"hints": dict(made.hints), "corpus": dict(made.corpus)}
    info = seal(declaration, columns, made.classes, sidecars, extra)
    write_json(folder / NAME, info | {"findings": list(made.findings)})
    return folder


def write_sealed(folder: Path, rows: Sequence[Floats], shards: int, fixed: bool) -> Path:
    """Features, (frames, 40 or 80) or (samples,) each, with the labels ``word``, ``speaker``."""
    features: dict[tuple[int, ...], Feature] = {
        (): Waveform(16000, "float32"),
        (40,): Mfcc.at(16000, n_mfcc=40),
        (80,): LogMel.at(22050, n_mels=80),
    }
    examples = [(f"{n:08d}", {"word": n % 35, "speaker": n}, row) for n, row in enumerate(rows)]
    made = Made(
        features[rows[0].shape[1:]],
        {"word": "class", "speaker": "int"},
        {"train": examples},
        {"word": [f"word{n:02d}" for n in range(35)]},
        fixed=fixed,
        shards=shards,
        statistics=False,
    )
    return write_made(folder, made)


def stored(split: "Split") -> list[tuple[str, npt.NDArray[Any]]]:
    """(key, features) straight from the shards."""
    sealed = split.sealed
    shards = [
        read_shard(sealed.folder / f"{info.shard}.arrow", sealed.columns)
        for info in sealed.splits[split.name]
    ]
    return [(s.keys[i].as_py(), s.features(i)) for s in shards for i in range(len(s))]
