"""A split as a Hugging Face ``datasets.Dataset``, its features not copied."""

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline.dataset import Sealed

VALUES = {"int": "int64", "float": "float64", "text": "string"}


def as_hf(
    sealed: Sealed, split: str, shards: Sequence[pa.RecordBatch], names: Sequence[str]
) -> Any:
    """The rows of a split's mapped shards as a ``datasets.Dataset`` with some of their columns.

    Features are lists (``with_format("numpy")`` or ``"torch"`` gives arrays) as they are stored,
    classes are ``ClassLabel``. The map ends with the last dataset that views it.

    Args:
        sealed: the dataset.
        split: the split's name.
        shards: all its rows.
        names: the labels that are wanted, ``"key"`` among them or not.
    """
    import datasets

    stored: Any = datasets.Value(sealed.columns.dtype)
    for width in reversed(sealed.columns.shape):
        stored = datasets.List(stored, length=-1 if width is None else width)
    kinds = {"key": "text"} | dict(sealed.columns.labels)
    columns = {
        name: datasets.ClassLabel(names=list(sealed.classes[name]))
        if kinds[name] == "class"
        else datasets.List(datasets.Value("int64"))
        if kinds[name] == "characters"
        else datasets.Value(VALUES[kinds[name]])
        for name in names
    }
    schema = datasets.Features(columns | {"features": stored}).arrow_schema
    batches = [
        pa.RecordBatch.from_arrays([shard.column(name) for name in schema.names], schema=schema)
        for shard in shards
    ]
    # Else the library would read the whole table to make a fingerprint of it. By this one it finds
    # what ``map`` made before, so it must stand for these rows and columns alone.
    hashes = [info.sha256 for info in sealed.splits[split]]
    classes = {name: sealed.classes[name] for name in names if kinds[name] == "class"}
    own = hashlib.sha256(repr((split, hashes, list(names), classes)).encode()).hexdigest()[:16]
    table = datasets.table.InMemoryTable(pa.Table.from_batches(batches, schema))
    return datasets.Dataset(table, fingerprint=own)
