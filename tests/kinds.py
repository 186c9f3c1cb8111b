"""Sealed datasets of every kind of features, filled with any bits."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.dataset import FORMAT, NAME, Sealed, open_sealed, seal
from pipeline.features import Feature, LogMel, Mfcc, Pixels, Tokens, Vector, Waveform, to_dict
from pipeline.files import sha256_of, write_json
from pipeline.records import ShardInfo
from pipeline.rows import content_of, pieces
from pipeline.shard import Columns, read_shard, write_shard

Array = npt.NDArray[Any]
LABELS = {
    "word": "class",
    "age": "int",
    "weight": "float",
    "said": "text",
    "spelt": "characters",
}


def bits(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Any values at all: NaN of every kind, -0.0, infinite ones."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(rng.bytes(size), dtype).reshape(shape)


def make_sealed(
    folder: Path, feature: Feature, shape: tuple[int | None, ...], rows: Sequence[Array]
) -> Sealed:
    """A sealed dataset of given features, train in two shards and a test."""
    folder.mkdir(parents=True)
    columns = Columns(LABELS, feature.dtype, shape)
    sidecars, half = [], (len(rows) + 1) // 2
    for name, first, last in (
        ("train-00000-of-00002", 0, half),
        ("train-00001-of-00002", half, len(rows)),
        ("test-00000-of-00001", 0, 1),
    ):
        numbers = range(first, last)
        labels: Mapping[str, Sequence[Any]] = {
            "word": [n % 3 for n in numbers],
            "age": [n - 5 for n in numbers],
            "weight": [n / 7 for n in numbers],
            "said": [f"näh.{n}\t" * (n % 3) for n in numbers],
            "spelt": [[1 + (n + i) % 4 for i in range(n % 3 * 5)] for n in numbers],
        }
        path = folder / f"{name}.arrow"
        write_shard(path, columns, [f"a.b/{n:04d}" for n in numbers], labels, rows[first:last])
        info = ShardInfo(name, last - first, path.stat().st_size, sha256_of(path))
        sidecars.append(asdict(info) | {"moments": None, "findings": [], "versions": {"n": "1"}})
    declaration = {
        "format": FORMAT,
        "recipe": {"name": "mini", "version": 1},
        "protocol": {"name": "all", "params": {}},
        "sources": {"main": "ab" * 32},
        "audio": None,
        "features": to_dict(feature),
    }
    corpus = {"title": "Mini", "licence": "CC0-1.0", "redistribution": "allowed"}
    extra = {"hints": {"target": "word"}, "corpus": corpus, "promised": {"train": None}}
    classes = {"word": ["no", "on", "yes"], "spelt": list(" ähn")}
    write_json(folder / NAME, seal(declaration, columns, classes, sidecars, extra))
    return open_sealed(folder)


def every_kind(folder: Path, seed: int = 0) -> Iterator[Sealed]:
    """A dataset of every kind of features, filled with any bits."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 9, 7)
    exact = rng.integers(-32768, 32768, 50).astype(np.float32) / np.float32(32768)
    minus_zero = exact.copy()
    minus_zero[3] = -0.0
    samples = [exact, minus_zero, exact[:0], bits(rng, (20,), "float32"), exact * 3]
    yield make_sealed(
        folder / "log_mel",
        LogMel.at(16000, n_mels=8),
        (None, 8),
        [bits(rng, (n, 8), "float32") for n in lengths],
    )
    yield make_sealed(
        folder / "float16",
        Mfcc.at(16000, n_mfcc=8, dtype="float16"),
        (4, 8),
        [bits(rng, (4, 8), "float16") for n in lengths],
    )
    yield make_sealed(folder / "floats", Waveform(16000, "float32"), (None,), samples)
    yield make_sealed(
        folder / "waveform",
        Waveform(22050, "int16"),
        (None,),
        [bits(rng, (n,), "int16") for n in lengths],
    )
    yield make_sealed(
        folder / "pixels", Pixels(5, 4), (5, 4), [bits(rng, (5, 4), "uint8") for _ in range(4)]
    )
    yield make_sealed(
        folder / "vector", Vector(5, 4), (20,), [bits(rng, (20,), "uint8") for _ in range(4)]
    )
    yield make_sealed(
        folder / "tokens", Tokens(10), (None,), [rng.integers(0, 10, n) for n in lengths]
    )


def shards(sealed: Sealed) -> list[ShardInfo]:
    return list(itertools.chain(*sealed.splits.values()))


def own_content(sealed: Sealed, info: ShardInfo) -> str:
    shard = read_shard(sealed.folder / f"{info.shard}.arrow", sealed.columns)
    return content_of(pieces(shard, sealed.columns))
