"""One shard as one WebDataset tar: the same rows give the same bytes, anywhere.

The members of a row lie side by side, named by its number in the split (keys may hold dots, at
which readers would cut them): ``00000000.json`` with the key and every label, classes by name,
``00000000.cls`` with the number of the target's class, and the features as ``npy``, ``flac``,
``wav`` or ``png``.
"""

import io
import itertools
import json
import tarfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.dataset import Sealed, open_sealed, target_of
from pipeline.features import Pixels, Waveform
from pipeline.files import written
from pipeline.images import as_png
from pipeline.publish.features import label_value
from pipeline.publish.media import as_audio, as_npy, audio_ending
from pipeline.records import ShardInfo
from pipeline.rows import Array, Rows, pieces
from pipeline.shard import read_shard


def write_webdataset(path: Path, sealed: Sealed, info: ShardInfo) -> None:
    """Write a shard of a dataset as a tar, whole or not at all."""
    shard = read_shard(sealed.folder / f"{info.shard}.arrow", sealed.columns)
    number = first_row(sealed, info)
    with (
        written(path) as temporary,
        tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for rows in pieces(shard, sealed.columns):
            for members in _samples(rows, sealed):
                for ending, data in members.items():
                    member = tarfile.TarInfo(f"{number:08d}.{ending}")
                    member.size, member.mode = len(data), 0o644
                    tar.addfile(member, io.BytesIO(data))
                number += 1


def first_row(sealed: Sealed, info: ShardInfo) -> int:
    """The number, in its split, of a shard's first row."""
    split = info.shard.partition("-")[0]
    before = itertools.takewhile(lambda other: other != info, sealed.splits[split])
    return sum(other.rows for other in before)


def ending_of(sealed: Sealed) -> str:
    """The ending of the members that hold features: one, for both readers want no others.

    Waveforms are FLAC if every clip of the dataset can be, as Parquet has each by itself.
    """
    if isinstance(sealed.feature, Waveform):
        return "flac" if _all_are_flac(sealed.folder, tuple(sealed.splits.values())) else "wav"
    return "png" if isinstance(sealed.feature, Pixels) else "npy"


@cache
def _all_are_flac(folder: Path, shards: tuple[tuple[ShardInfo, ...], ...]) -> bool:
    """Whether no clip needs a WAV; ``shards`` hold the hashes of what is asked about."""
    sealed = open_sealed(folder)
    rate = sealed.feature.sample_rate if isinstance(sealed.feature, Waveform) else 0
    return all(
        audio_ending(clip, rate) == "flac"
        for info in itertools.chain(*shards)
        for rows in pieces(
            read_shard(folder / f"{info.shard}.arrow", sealed.columns), sealed.columns
        )
        for clip in rows.features()
    )


def tar_features(sealed: Sealed) -> Any:
    """The ``datasets.Features`` of the tars; audio as bytes, to be read without torchcodec."""
    import datasets

    kinds = {"flac": datasets.Value("binary"), "wav": datasets.Value("binary")}
    ending, dtype = ending_of(sealed), sealed.columns.dtype
    if ending == "png":
        kinds["png"] = datasets.Image()
    elif len(sealed.columns.shape) == 1:
        kinds["npy"] = datasets.List(datasets.Value(dtype))
    else:
        kinds["npy"] = datasets.Array2D((None, sealed.columns.shape[1]), dtype)
    labels = {"key": datasets.Value("string")}
    for name, kind in sealed.columns.labels.items():
        labels[name] = label_value("text" if kind == "class" else kind)
    features = {"json": labels}
    target = target_of(sealed)
    if target:
        features["cls"] = datasets.ClassLabel(names=list(sealed.classes[target]))
    features |= {ending: kinds[ending]}
    text = datasets.Value("string")
    return datasets.Features(features | {"__key__": text, "__url__": text})


def _samples(rows: Rows, sealed: Sealed) -> Iterator[dict[str, bytes]]:
    """Ending → bytes, for every row."""
    target = target_of(sealed)
    columns = {name: column.to_pylist() for name, column in rows.labels.items()}
    for i, (key, features) in enumerate(zip(rows.keys.to_pylist(), rows.features(), strict=True)):
        values = {name: column[i] for name, column in columns.items()}
        named = {name: _named(sealed.classes.get(name), value) for name, value in values.items()}
        members = {"json": json.dumps({"key": key, **named}, ensure_ascii=False).encode()}
        if target:
            members["cls"] = str(values[target]).encode()
        yield members | _feature_member(features, sealed)


def _feature_member(features: Array, sealed: Sealed) -> dict[str, bytes]:
    ending = ending_of(sealed)
    if isinstance(sealed.feature, Waveform):
        return {ending: as_audio(features, sealed.feature.sample_rate, ending)}
    if ending == "png":
        return {ending: as_png(features)}
    return {ending: as_npy(features)}


def _named(names: Sequence[str] | None, value: Any) -> Any:
    """A class by its name, None for what has no class; anything else as it is."""
    if names is None:
        return value
    return names[value] if value >= 0 else None
