"""Sealed datasets of random features in any number of shards, made without preparing anything."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.dataset import FORMAT, NAME, seal
from pipeline.features import Feature, LogMel, Mfcc, Waveform, to_dict
from pipeline.files import sha256_of, write_json
from pipeline.records import ShardInfo
from pipeline.shard import Columns, write_shard

Floats = npt.NDArray[np.float32]


def write_sealed(folder: Path, rows: Sequence[Floats], shards: int, fixed: bool) -> Path:
    """Features, (frames, 40 or 80) or (samples,) each, with the labels ``word``, ``speaker``."""
    folder.mkdir()
    shape = (len(rows[0]) if fixed else None, *rows[0].shape[1:])
    features: dict[tuple[int, ...], Feature] = {
        (): Waveform(16000, "float32"),
        (40,): Mfcc.at(16000, n_mfcc=40),
        (80,): LogMel.at(22050, n_mels=80),
    }
    feature = features[rows[0].shape[1:]]
    columns = Columns({"word": "class", "speaker": "int"}, "float32", shape)
    edges = np.linspace(0, len(rows), shards + 1).astype(int).tolist()
    sidecars = []
    for i, (first, last) in enumerate(pairwise(edges)):
        name = f"train-{i:05d}-of-{shards:05d}"
        path = folder / f"{name}.arrow"
        numbers = list(range(first, last))
        labels = {"word": [n % 35 for n in numbers], "speaker": numbers}
        write_shard(path, columns, [f"{n:08d}" for n in numbers], labels, rows[first:last])
        info = ShardInfo(name, last - first, path.stat().st_size, sha256_of(path))
        sidecars.append(asdict(info) | {"moments": None, "findings": [], "versions": {}})
    declaration = {
        "format": FORMAT,
        "recipe": {"name": "bench", "version": 1},
        "protocol": {"name": "all", "params": {}},
        "features": to_dict(feature),
    }
    extra = {"hints": {}, "corpus": {}}
    classes = {"word": [f"word{n:02d}" for n in range(35)]}
    write_json(folder / NAME, seal(declaration, columns, classes, sidecars, extra))
    return folder
