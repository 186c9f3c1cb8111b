"""One shard: an Arrow IPC file, written atomically and mapped without a copy.

The file holds one uncompressed record batch, so every column's values are one run of bytes that
NumPy can view. Its columns, in order:

    key        string
    <label>    int64 (class index or integer), float64, string, or list<int64> (token ids of
               characters); one column per label
    features   fixed_size_list<…<T>>                 where every example has one shape
               list<T>                               (length,)     of any length
               list<fixed_size_list<T>[bins]>        (frames, bins) with any number of frames

T is float32, float16, int16, uint8 or int64. There are no extension types and no dictionaries: any
Arrow reader reads it (format: https://arrow.apache.org/docs/format/Columnar.html#ipc-file-format).
"""

import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.columns import lists, numbers, strings, view
from pipeline.errors import DatasetError
from pipeline.files import InPieces, written
from pipeline.mapping import Bytes, mapped

Array = npt.NDArray[Any]
MAGIC = b"ARROW1"
# Who prepares looks at sizes alone, so a damaged file must go first.
REMEDY = "delete this file and prepare or pull the dataset again"
FULL = {  # why a sound shard can't be mapped
    errno.EACCES: "no permission to read it",
    errno.EMFILE: "too many open files; raise the limit: ulimit -n",
    errno.ENFILE: "too many open files on this machine",
    errno.ENOMEM: "no memory, or too many maps; raise the limit: sysctl vm.max_map_count",
}
LABEL_ARROW_TYPES = {
    "class": pa.int64(),
    "int": pa.int64(),
    "float": pa.float64(),
    "text": pa.string(),
    "characters": pa.list_(pa.int64()),
}


@dataclass(frozen=True)
class Columns:
    """What a shard holds: label types by name, and the features' type and shape.

    ``shape`` is one example's shape; its first entry is ``None`` where the length is open.
    ``classes`` says how many names class labels have, where that is known: it is no part of the
    file, but whoever reads it holds the numbers against it.
    """

    labels: Mapping[str, str]
    dtype: str
    shape: tuple[int | None, ...]
    classes: Mapping[str, int] = field(default_factory=dict)

    def schema(self) -> pa.Schema:
        """The Arrow schema of a shard."""
        kind: pa.DataType = pa.from_numpy_dtype(np.dtype(self.dtype))
        for width in reversed(self.shape):
            kind = pa.list_(kind) if width is None else pa.list_(kind, width)
        labels = [pa.field(name, LABEL_ARROW_TYPES[t], False) for name, t in self.labels.items()]
        fields = [pa.field("key", pa.string(), False), *labels]
        return pa.schema([*fields, pa.field("features", kind, False)])


@dataclass(frozen=True)
class Shard:
    """A mapped shard.

    Attributes:
        batch: the whole shard as Arrow has it.
        keys, labels: its columns.
        values: all features on end, (total, …) for open lengths, (rows, …) for one shape.
        offsets: (rows + 1,) int32, example i is ``values[offsets[i]:offsets[i + 1]]``; ``None`` for
            one shape.
    """

    batch: pa.RecordBatch
    keys: pa.Array
    labels: Mapping[str, pa.Array]
    values: Array
    offsets: npt.NDArray[np.int32] | None

    def __len__(self) -> int:
        return len(self.keys)

    def features(self, row: int) -> Array:
        """One example's features, a view of the map."""
        where = row if self.offsets is None else slice(*self.offsets[row : row + 2])
        example: Array = self.values[where]
        return example


def label_array(values: Sequence[Any], kind: str) -> pa.Array:
    """A label column of one of the label types."""
    if kind == "text":
        return strings(values)
    if kind == "characters":
        ids = numbers([token for tokens in values for token in tokens], "int64")
        return lists([len(tokens) for tokens in values], ids)
    return numbers(values, "float64" if kind == "float" else "int64")


def write_shard(
    path: Path,
    columns: Columns,
    keys: Sequence[str],
    labels: Mapping[str, Sequence[Any]],
    features: Sequence[Array],
    *,
    flushed: bool = False,
) -> None:
    """Write a shard, whole or not at all; a build leaves flushing it to the disk to its driver.

    ``features`` holds one array per key, each of ``columns.shape`` and ``columns.dtype``.
    """
    schema = columns.schema()
    arrays = [strings(keys)]
    arrays += [label_array(labels[name], kind) for name, kind in columns.labels.items()]
    arrays.append(_feature_array(features, columns))
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    with (
        written(path, flushed=flushed) as temporary,
        InPieces(temporary, "wb") as out,
        pa.ipc.new_file(out, schema) as writer,
    ):
        writer.write_batch(batch)


def _feature_array(features: Sequence[Array], columns: Columns) -> pa.Array:
    """The features column, its values copied once."""
    inner = tuple(width for width in columns.shape[1:] if width is not None)
    lengths = [len(f) for f in features]
    values = np.empty((sum(lengths), *inner), columns.dtype)
    if features:
        np.concatenate(features, out=values)
    array = numbers(values.reshape(-1), columns.dtype)
    for width in reversed(inner):
        array = pa.FixedSizeListArray.from_arrays(array, width)
    if columns.shape[0] is not None:
        return pa.FixedSizeListArray.from_arrays(array, columns.shape[0])
    return lists(lengths, array)


def read_shard(path: Path, columns: Columns) -> Shard:
    """Map a shard and check its header and footer against what the dataset declares.

    The map is private: whoever writes into a view changes their own process's copy, never the file.

    Raises:
        DatasetError: not an Arrow file, cut short, or of another schema; offsets that lead
            elsewhere, or numbers of classes that there are not.
    """
    try:
        whole = mapped(path)
        batch = _only_batch(path, whole, columns.schema())
    except FileNotFoundError:
        raise DatasetError(f"{path}: expected a shard here, got no such file") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        lacking = FULL.get(getattr(error, "errno", None) or 0)
        if lacking:
            raise DatasetError(f"{path}: {lacking}") from None
        reason = str(error).partition("\n")[0]
        raise DatasetError(f"{path}: not a whole shard ({reason}); {REMEDY}") from None
    labels = {name: batch.column(name) for name in columns.labels}
    features = batch.column("features")
    offsets = None if columns.shape[0] is not None else view(features.offsets)
    inner: pa.Array = features
    while isinstance(inner, pa.ListArray | pa.FixedSizeListArray):
        inner = inner.values
    # NumPy views the map itself, not Arrow's read-only buffer: torch takes writable memory alone.
    start = inner.buffers()[1].address - whole.ctypes.data if len(inner) else 0
    if not 0 <= start <= len(whole):
        raise DatasetError(f"{path}: expected an uncompressed shard; {REMEDY}")
    values = np.frombuffer(whole, columns.dtype, len(inner), start)
    shape = [-1 if width is None else width for width in columns.shape]
    values = values.reshape(shape if offsets is not None else (len(features), *shape))
    if offsets is not None:
        _check_offsets(path, offsets, len(values))
    _check_classes(path, labels, columns.classes)
    return Shard(batch, batch.column("key"), labels, values, offsets)


def _check_offsets(path: Path, offsets: npt.NDArray[np.int32], values: int) -> None:
    """Arrow itself looks at the last one alone, for the others take time to read: 4 bytes a row."""
    if offsets[0] < 0 or offsets[-1] > values or (offsets[1:] < offsets[:-1]).any():
        raise DatasetError(f"{path}: damaged offsets of its features; {REMEDY}")


def _check_classes(path: Path, labels: Mapping[str, pa.Array], classes: Mapping[str, int]) -> None:
    """Numbers of classes must have a name, or be -1 for none."""
    for name, count in classes.items():
        numbers = view(labels[name])
        low, high = int(numbers.min(initial=-1)), int(numbers.max(initial=-1))
        if low < -1 or high >= count:
            raise DatasetError(
                f"{path}: label {name}: expected classes below {count}, or -1 for none, "
                f"got {low if low < -1 else high}; {REMEDY}"
            )


def _only_batch(path: Path, whole: Bytes, schema: pa.Schema) -> pa.RecordBatch:
    begin = whole[: len(MAGIC)].tobytes()
    if begin != MAGIC:  # Arrow itself looks only at the end of the file
        raise ValueError(f"it begins with {begin!r}, not {MAGIC!r}")
    reader = pa.ipc.open_file(pa.py_buffer(whole))
    if reader.schema != schema or reader.num_record_batches != 1:
        raise DatasetError(
            f"{path}: expected one batch with the columns {_brief(schema)}, got "
            f"{reader.num_record_batches} with {_brief(reader.schema)}; {REMEDY}"
        )
    batch = reader.get_batch(0)
    batch.validate()
    if any(_has_nulls(column) for column in batch.columns):
        raise ValueError("it has nulls")
    for column in batch.columns[:-1]:  # texts are read through their offsets: those must hold
        column.validate(full=True)
    return batch


def _has_nulls(column: pa.Array) -> bool:
    """Whether an array or what it is a list of holds nulls; ours never do."""
    while isinstance(column, pa.ListArray | pa.FixedSizeListArray):
        if column.null_count:
            return True
        column = column.values
    return bool(column.null_count)


def _brief(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema)
