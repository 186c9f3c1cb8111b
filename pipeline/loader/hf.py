"""A split as a Hugging Face ``datasets.Dataset``, its features not copied."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import pyarrow as pa

from pipeline.dataset import Sealed

VALUES = {"int": "int64", "float": "float64", "text": "string"}


def as_hf(sealed: Sealed, shards: Sequence[pa.RecordBatch], chosen: npt.NDArray[Any] | None) -> Any:
    """The rows of mapped shards as a ``datasets.Dataset`` with the columns of the shards.

    Features are lists (``with_format("numpy")`` or ``"torch"`` gives arrays) as they are stored,
    classes are ``ClassLabel``. The map ends with the last dataset that views it.

    Args:
        sealed: the dataset.
        shards: all rows of one split.
        chosen: the rows that are wanted, in their order; None for all.
    """
    import datasets

    kind: Any = datasets.Value(sealed.columns.dtype)
    for width in reversed(sealed.columns.shape):
        kind = datasets.List(kind, length=-1 if width is None else width)
    features = {"key": datasets.Value("string")}
    for name, label in sealed.columns.labels.items():
        named = label == "class"
        features[name] = (
            datasets.ClassLabel(names=list(sealed.classes[name]))
            if named
            else datasets.Value(VALUES[label])
        )
    declared = datasets.Features(features | {"features": kind})
    schema = declared.arrow_schema
    table = pa.Table.from_batches(
        [pa.RecordBatch.from_arrays(shard.columns, schema=schema) for shard in shards], schema
    )
    whole = datasets.Dataset(datasets.table.InMemoryTable(table), info=None)
    return whole if chosen is None else whole.select(chosen)
