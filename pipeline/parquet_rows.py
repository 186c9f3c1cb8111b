"""The rows of anybody's Parquet file: one column's contents as bytes, and the plain ones as labels.

Read by pyarrow alone. ``datasets`` notes class names in a file's metadata, as JSON; nothing else of
it is needed.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import RecipeError

BATCH = 128
Label = tuple[str, int | float | str | None]  # its kind, and None where it is absent or no class


def read_rows(file: Path, path: str, column: str) -> Iterator[tuple[bytes, dict[str, Label]]]:
    """What a column of a Parquet file holds, row by row, and its labels: name → (kind, value).

    Args:
        file: the Parquet file.
        path: what messages call it.
        column: the wanted one; "": the first of files' bytes, else the first of arrays.

    Raises:
        RecipeError: that is no Parquet, or has no such column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
        schema = parquet.schema_arrow
        wanted, kinds, classes = _wanted(schema, column, path), _kinds(schema), _classes(schema)
        for batch in parquet.iter_batches(BATCH, columns=[wanted, *kinds]):
            labels = {name: batch.column(name).to_pylist() for name in kinds}
            for i, content in enumerate(_contents(batch.column(wanted))):
                yield (
                    content,
                    {n: (k, _value(labels[n][i], k, classes.get(n))) for n, k in kinds.items()},
                )
    except (pa.ArrowException, KeyError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not readable as Parquet: {error}") from None


def _wanted(schema: Any, column: str, path: str) -> str:
    """The column to prepare: the one that is named, else the first of files, else of arrays."""
    kinds = {name: _content_kind(schema.field(name).type) for name in schema.names}
    if column and not kinds.get(column):
        had = f"{schema.field(column).type}" if column in kinds else f"only {', '.join(kinds)}"
        raise RecipeError(f"{path}: column {column}: expected recordings, images or arrays: {had}")
    for kind in ("file", "array"):
        for name in [column] if column else schema.names:
            if kinds[name] == kind:
                return str(name)
    raise RecipeError(f"{path}: no column of recordings, images or arrays: {', '.join(kinds)}")


def _content_kind(kind: Any) -> str | None:
    """``file`` for bytes or a struct with such, ``array`` for nested lists of numbers."""
    import pyarrow.types as of

    kind = getattr(kind, "storage_type", kind)
    if of.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        return "file" if "bytes" in names and of.is_binary(kind.field("bytes").type) else None
    if of.is_binary(kind) or of.is_large_binary(kind):
        return "file"
    nested = False
    while of.is_list(kind) or of.is_large_list(kind) or of.is_fixed_size_list(kind):
        kind, nested = kind.value_type, True
    return "array" if nested and (of.is_integer(kind) or of.is_floating(kind)) else None


def _contents(column: Any) -> Iterator[bytes]:
    """The bytes of each row's file, or its array as .npy; none where there is only a path, or no
    array of numbers: who loads it names it.
    """
    column = getattr(column, "storage", column)
    if _content_kind(column.type) == "array":
        yield from (_npy(value.as_py()) for value in column)
    else:
        files = column.field("bytes") if hasattr(column, "field") else column
        yield from (value.as_py() or b"" for value in files)


def _npy(values: Any) -> bytes:
    """Nested lists as .npy; nothing where they are absent, ragged, or have holes."""
    file = io.BytesIO()
    try:
        np.save(file, np.array(values), allow_pickle=False)
    except ValueError:
        return b""
    return file.getvalue()


def _classes(schema: Any) -> dict[str, list[str]]:
    """Class names by column, as ``datasets`` notes them in a file's metadata."""
    try:
        noted = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {
            name: [str(n) for n in feature["names"]]
            for name, feature in noted.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (KeyError, TypeError, ValueError):
        return {}


def _kinds(schema: Any) -> dict[str, str]:
    """The kind of label that each column of plain values is."""
    import pyarrow.types as of

    classes, kinds = _classes(schema), {}
    for name in schema.names:
        kind = schema.field(name).type
        kind = kind.value_type if of.is_dictionary(kind) else kind  # pandas' categories
        if of.is_string(kind) or of.is_large_string(kind):
            kinds[name] = "text"
        elif of.is_integer(kind) or of.is_boolean(kind):
            kinds[name] = "class" if name in classes else "int"
        elif of.is_floating(kind):
            kinds[name] = "float"
    return kinds


def _value(value: Any, kind: str, names: list[str] | None) -> Any:
    """A label's value: a class by its name, an absent text as an empty one."""
    if kind == "text":
        return value or ""
    if names is not None and value is not None:
        return names[value] if 0 <= value < len(names) else None
    return int(value) if isinstance(value, bool) else value
