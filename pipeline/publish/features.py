"""Our columns as those that a stranger expects, with Hugging Face ``Features``, and back.

key        Value("string")
<label>    ClassLabel(names), Value("int64"), Value("float64") or Value("string"), or
           List(Value("int64")) for characters
features   Array2D((None, bins)), with num_frames, for spectra
audio      Audio(rate): FLAC or WAV bytes, with num_samples, for waveforms
image      Image(): PNG bytes, for pixels
vector     List(Value("uint8"))
tokens     List(Value("int64"))
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.columns import lists, numbers, strings, view
from pipeline.dataset import Sealed
from pipeline.errors import DatasetError
from pipeline.features import Pixels, Tokens, Vector, Waveform
from pipeline.images import as_png
from pipeline.publish.media import as_audio, audio_ending, from_audio, from_png
from pipeline.rows import Array, Rows
from pipeline.shard import LABEL_ARROW_TYPES

FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
LENGTHS = {"features": "num_frames", "audio": "num_samples"}
VALUES = {"int": "int64", "float": "float64", "text": "string"}


def column_of(sealed: Sealed) -> str:
    """The name that a dataset's features are published under."""
    names = {Waveform: "audio", Pixels: "image", Vector: "vector", Tokens: "tokens"}
    return names.get(type(sealed.feature), "features")


def check_names(sealed: Sealed) -> None:
    """Raise DatasetError if a label has the name of a column that is published beside it."""
    for name in (column_of(sealed), LENGTHS.get(column_of(sealed))):
        if name in sealed.columns.labels:
            raise DatasetError(
                f"{sealed.folder}: its label {name!r} has the name of a published column; "
                "call it something else in the recipe"
            )


def label_value(kind: str) -> Any:
    """A label that is no class as ``datasets`` has it."""
    import datasets

    if kind == "characters":
        return datasets.List(datasets.Value("int64"))
    return datasets.Value(VALUES[kind])


def label_features(sealed: Sealed) -> dict[str, Any]:
    """The key and the labels as ``datasets`` has them."""
    import datasets

    features = {"key": datasets.Value("string")}
    for name, kind in sealed.columns.labels.items():
        features[name] = (
            datasets.ClassLabel(names=list(sealed.classes[name]))
            if kind == "class"
            else label_value(kind)
        )
    return features


def hf_features(sealed: Sealed) -> Any:
    """The ``datasets.Features`` of a published dataset."""
    import datasets

    name, feature = column_of(sealed), sealed.feature
    if isinstance(feature, Waveform):
        kind = datasets.Audio(sampling_rate=feature.sample_rate)
    elif isinstance(feature, Pixels):
        kind = datasets.Image()
    elif isinstance(feature, Tokens | Vector):
        kind = datasets.List(datasets.Value(feature.dtype))
    else:
        kind = datasets.Array2D((None, sealed.columns.shape[1]), feature.dtype)
    lengths = {LENGTHS[name]: datasets.Value("int32")} if name in LENGTHS else {}
    return datasets.Features(label_features(sealed) | {name: kind} | lengths)


def stored_types(sealed: Sealed) -> dict[str, pa.DataType]:
    """Column → Arrow type, as plain Arrow without extension types sees a published dataset."""
    types = {"key": pa.string()}
    types |= {name: LABEL_ARROW_TYPES[kind] for name, kind in sealed.columns.labels.items()}
    name, value = column_of(sealed), pa.from_numpy_dtype(np.dtype(sealed.columns.dtype))
    plain = {"audio": FILE, "image": FILE, "tokens": pa.list_(value), "vector": pa.list_(value)}
    types[name] = plain.get(name, pa.list_(pa.list_(value)))
    return types | ({LENGTHS[name]: pa.int32()} if name in LENGTHS else {})


def encode(rows: Rows, sealed: Sealed) -> dict[str, pa.Array]:
    """Rows as published columns of ``stored_types``."""
    name, lengths = column_of(sealed), rows.lengths
    columns = {"key": rows.keys, **rows.labels}
    if isinstance(sealed.feature, Waveform):
        rate = sealed.feature.sample_rate
        clips = rows.features()
        endings = [audio_ending(clip, rate) for clip in clips]
        keys = [key.replace("/", "_") for key in rows.keys.to_pylist()]
        files = zip(clips, endings, strict=True)
        data = [as_audio(clip, rate, ending) for clip, ending in files]
        names = [f"{key}.{ending}" for key, ending in zip(keys, endings, strict=True)]
        columns[name] = as_files(data, strings(names))
    elif isinstance(sealed.feature, Pixels):
        columns[name] = as_files([as_png(image) for image in rows.features()])
    else:
        columns[name] = as_lists(lengths, rows.values, sealed)
    return columns | ({LENGTHS[name]: numbers(lengths, "int32")} if name in LENGTHS else {})


def as_files(data: Sequence[bytes], names: pa.Array | None = None) -> pa.Array:
    """The bytes of files, and their names if they have any."""
    none = pa.nulls(len(data), pa.string())
    held = [pa.array(data, pa.binary()), none if names is None else names]
    return pa.StructArray.from_arrays(held, fields=list(FILE))


def as_lists(lengths: npt.NDArray[np.int64], values: Array, sealed: Sealed) -> pa.Array:
    """(sum of lengths, …) values as a list for every row, or a list of lists."""
    held = numbers(values.reshape(-1), sealed.columns.dtype)
    if values.ndim > 1:
        held = lists(np.full(len(values), values.shape[1]), held)
    return lists(lengths, held)


def decode(columns: Mapping[str, pa.Array], sealed: Sealed, most: int) -> Rows:
    """Published columns of ``stored_types`` as rows; nothing that they say is trusted.

    Args:
        columns: by name.
        sealed: what they must be.
        most: values that they may hold; nothing larger is decompressed.

    Raises:
        DatasetError: a null, a class that there is none of, a length or width that is not the
            dataset's, more values than ``most``.
    """
    name, feature = column_of(sealed), sealed.feature
    for column, array in columns.items():
        array.validate(full=True)
        if array.null_count:
            raise DatasetError(f"column {column}: expected no nulls, got {array.null_count}")
    if isinstance(feature, Pixels):
        lengths, values = _from_images(columns[name], feature, most)
    elif isinstance(feature, Waveform):
        lengths, values = _from_audio(columns, feature, most)
    else:
        lengths, values = _from_lists(columns[name], sealed)
    if name in LENGTHS and not np.array_equal(view(columns[LENGTHS[name]]), lengths):
        raise DatasetError(f"column {LENGTHS[name]}: not the lengths of the {name}")
    fixed = sealed.columns.shape[0]
    if fixed is not None and (lengths != fixed).any():
        raise DatasetError(f"column {name}: expected {fixed} in every row, got other lengths")
    for label, names in sealed.classes.items():
        classes = view(columns[label])
        if len(classes) and not -1 <= classes.min() <= classes.max() < len(names):
            raise DatasetError(
                f"label {label}: expected classes 0 to {len(names) - 1}, or -1 for none"
            )
    for label, alphabet in sealed.alphabets.items():
        ids = _values(columns[label].flatten())
        if len(ids) and not 1 <= ids.min() <= ids.max() < len(alphabet):
            raise DatasetError(f"label {label}: expected token ids 1 to {len(alphabet) - 1}")
    labels = {label: columns[label] for label in sealed.columns.labels}
    return Rows(columns["key"], labels, lengths, values)


def _from_lists(held: pa.Array, sealed: Sealed) -> tuple[npt.NDArray[np.int64], Array]:
    """Lists, or lists of lists of ``bins`` each, as lengths and values."""
    ends = view(held.offsets)
    lengths = (ends[1:] - ends[:-1]).astype(np.int64)
    inner = held.flatten()
    if len(sealed.columns.shape) == 1:
        return lengths, _values(inner)
    bins = sealed.columns.shape[1]
    widths = np.diff(view(inner.offsets))
    if inner.null_count or (widths != bins).any():
        raise DatasetError(f"column features: expected rows of {bins} values, got other widths")
    return lengths, _values(inner.flatten()).reshape(-1, bins or 0)


def _values(array: pa.Array) -> Array:
    if array.null_count:
        raise DatasetError(f"expected numbers, got {array.null_count} nulls among them")
    return view(array)


def _from_images(
    column: pa.Array, feature: Pixels, most: int
) -> tuple[npt.NDArray[np.int64], Array]:
    if len(column) * feature.height * feature.width > most:
        raise DatasetError(f"column image: more than {most:,} pixels")
    images = [from_png(png, feature.height, feature.width) for png in _bytes_of(column)]
    empty = np.empty((0, feature.width), np.uint8)
    return np.full(len(column), feature.height, np.int64), np.concatenate([empty, *images])


def _from_audio(
    columns: Mapping[str, pa.Array], feature: Waveform, most: int
) -> tuple[npt.NDArray[np.int64], Array]:
    lengths = view(columns["num_samples"]).astype(np.int64)
    if lengths.min(initial=0) < 0 or lengths.sum() > most:
        raise DatasetError(f"column num_samples: expected 0 to {most:,} samples in all")
    clips = zip(_bytes_of(columns["audio"]), lengths.tolist(), strict=True)
    samples = [from_audio(clip, feature.sample_rate, feature.dtype, n) for clip, n in clips]
    return lengths, np.concatenate([np.empty(0, feature.dtype), *samples])


def _bytes_of(column: pa.Array) -> list[bytes]:
    found: list[bytes] = column.field("bytes").to_pylist()
    if None in found:
        raise DatasetError("a row without the bytes of its file")
    return found
