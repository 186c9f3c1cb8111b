"""A published WebDataset tar back as the rows of its shard; nothing that it says is trusted.

Its members are read one after the other and must be those that ``webdataset`` writes, by name and
in order; nothing is ever unpacked. Values become the columns of Parquet, which ``decode`` checks.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.columns import numbers, strings
from pipeline.dataset import Sealed, target_of
from pipeline.errors import DatasetError
from pipeline.features import Pixels, Waveform
from pipeline.publish.features import as_files, as_lists, column_of, decode
from pipeline.publish.media import from_npy, sample_count
from pipeline.publish.webdataset import first_row
from pipeline.records import ShardInfo
from pipeline.rows import PIECE, Rows
from pipeline.shard import LABEL_ARROW_TYPES

Sample = tuple[bytes, bytes]  # its JSON, and its features


def read_webdataset(path: Path, sealed: Sealed, info: ShardInfo) -> Iterator[Rows]:
    """The rows of a published shard, as many at a time as have 16 MiB of features.

    Raises:
        DatasetError: no tar of ours, or other members, rows, lengths or widths than the dataset's.
    """
    left = info.bytes
    try:
        with tarfile.open(path, "r:") as tar:
            for samples in _pieces(_samples(tar, sealed, info)):
                rows = decode(_columns(samples, sealed, left), sealed, left)
                left -= rows.values.size
                yield rows
    except DatasetError as error:
        raise DatasetError(f"{info.shard}.tar: {error}") from None
    except (tarfile.TarError, pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"{info.shard}.tar: not readable as a tar: {reason}") from None


def _samples(tar: tarfile.TarFile, sealed: Sealed, info: ShardInfo) -> Iterator[Sample]:
    begin, feature = first_row(sealed, info), sealed.feature
    endings = ["png"] if isinstance(feature, Pixels) else ["npy"]
    if isinstance(feature, Waveform):
        endings = ["flac", "wav"]
    for number in range(begin, begin + info.rows):
        said = _member(tar, number, ["json"])
        if target_of(sealed):
            _member(tar, number, ["cls"])  # which JSON says, too
        yield said, _member(tar, number, endings)
    if tar.next() is not None:
        raise DatasetError(f"expected {info.rows} rows, got more")


def _member(tar: tarfile.TarFile, number: int, endings: Sequence[str]) -> bytes:
    """The next member's bytes."""
    names = [f"{number:08d}.{ending}" for ending in endings]
    member = tar.next()
    tar.members = []  # type: ignore[attr-defined]  # it would hold all of them
    if member is None or member.name not in names or not _is_plain(member):
        is_there = member is not None and member.name in names
        got = "one that is not plain" if is_there else repr(member.name) if member else "none"
        raise DatasetError(f"expected the file {' or '.join(names)}, got {got}")
    held = tar.extractfile(member)
    return held.read() if held else b""


def _is_plain(member: tarfile.TarInfo) -> bool:
    """Whether its bytes lie in the tar as they are: a sparse file may claim terabytes of zeros."""
    return member.type == tarfile.REGTYPE and not (member.pax_headers or member.issparse())


def _pieces(samples: Iterator[Sample]) -> Iterator[list[Sample]]:
    held: list[Sample] = []
    size = 0
    for sample in samples:
        held.append(sample)
        size += sum(map(len, sample))
        if size >= PIECE:
            yield held
            held, size = [], 0
    if held:
        yield held


def _columns(samples: Sequence[Sample], sealed: Sealed, most: int) -> dict[str, pa.Array]:
    """The columns that Parquet has of these rows."""
    name, data = column_of(sealed), [features for _, features in samples]
    columns = _labels([said for said, _ in samples], sealed)
    if isinstance(sealed.feature, Waveform):
        counts = [sample_count(clip, sealed.feature.dtype) for clip in data]
        if sum(counts) > most:
            raise DatasetError(f"expected at most {most:,} samples, got {sum(counts):,}")
        return columns | {name: as_files(data), "num_samples": numbers(counts, "int32")}
    if isinstance(sealed.feature, Pixels):
        return columns | {name: as_files(data)}
    inner = tuple(width or 0 for width in sealed.columns.shape[1:])
    arrays = [from_npy(file, sealed.columns.dtype, inner) for file in data]
    lengths = np.array([len(array) for array in arrays])
    columns[name] = as_lists(lengths, np.concatenate(arrays), sealed)
    return columns | ({"num_frames": numbers(lengths, "int32")} if name == "features" else {})


def _labels(said: Sequence[bytes], sealed: Sealed) -> dict[str, pa.Array]:
    """The key and the labels, which are JSON."""
    columns = {}
    try:
        rows: list[dict[str, Any]] = [json.loads(text) for text in said]
        columns["key"] = strings([row["key"] for row in rows])
        for name, kind in sealed.columns.labels.items():
            values = [row[name] for row in rows]
            if kind == "class":
                number_of = {name: number for number, name in enumerate(sealed.classes[name])}
                values = [-1 if value is None else number_of[value] for value in values]
            columns[name] = pa.array(values, LABEL_ARROW_TYPES[kind])
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RecursionError,
        OverflowError,
    ) as error:
        raise DatasetError(f"labels that are none of this dataset's: {error!r}") from None
    return columns
