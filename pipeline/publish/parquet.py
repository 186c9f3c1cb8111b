"""One shard as one Parquet file, and back.

Zstd, page index, content-defined chunking (so that a Hub sends only what changed), and the
Hugging Face features in the schema. A row group holds 16 MiB of features, so that neither side
holds more. The same rows give the same bytes with the same version of Arrow.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.dataset import Sealed
from pipeline.errors import DatasetError
from pipeline.files import written
from pipeline.publish.features import column_of, decode, encode, hf_features, stored_types
from pipeline.records import ShardInfo
from pipeline.rows import Rows, pieces
from pipeline.shard import read_shard

SPECTRA = "features.list.element.list.element"
PER_ROW, PER_FILE = 1 << 14, 1 << 20  # bytes that Parquet and the heads of media may add


def write_parquet(path: Path, sealed: Sealed, info: ShardInfo) -> None:
    """Write a shard of a dataset as Parquet, whole or not at all."""
    import pyarrow.parquet as pq

    shard = read_shard(sealed.folder / f"{info.shard}.arrow", sealed.columns)
    schema = hf_features(sealed).arrow_schema
    floats = column_of(sealed) == "features"
    classes = [name for name, kind in sealed.columns.labels.items() if kind == "class"]
    with (
        written(path) as temporary,
        pq.ParquetWriter(
            temporary,
            schema,
            compression="zstd",
            use_dictionary=classes,
            use_byte_stream_split=[SPECTRA] if floats else False,
            use_content_defined_chunking=True,
            write_page_index=True,
        ) as writer,
    ):
        for rows in pieces(shard, sealed.columns):
            columns = encode(rows, sealed)
            writer.write_table(_table(columns, schema))


def _table(columns: dict[str, pa.Array], schema: pa.Schema) -> pa.Table:
    arrays = [
        pa.ExtensionArray.from_storage(field.type, columns[field.name])
        if isinstance(field.type, pa.BaseExtensionType)
        else columns[field.name]
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def read_parquet(file: Any, sealed: Sealed, info: ShardInfo) -> Iterator[Rows]:
    """The rows of a published shard, a row group at a time; nothing that it says is trusted.

    ``file`` is a path or an open file.

    Raises:
        DatasetError: no Parquet, or other columns, rows, lengths or widths than the dataset's.
    """
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as parquet:
            types = stored_types(sealed)
            _check_schema(parquet.schema_arrow, types)
            _check_sizes(parquet.metadata, info)
            for number in range(parquet.num_row_groups):
                table = parquet.read_row_group(number)
                columns = {name: storage(table.column(name)) for name in types}
                yield decode(columns, sealed, info.bytes)
    except DatasetError as error:
        raise DatasetError(f"{info.shard}.parquet: {error}") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"{info.shard}.parquet: not readable as Parquet: {reason}") from None


def storage(column: Any) -> pa.Array:
    """A column in one piece, without the extension type that ``datasets`` gives it."""
    held = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if isinstance(held, pa.ChunkedArray):
        held = held.chunk(0) if held.num_chunks else pa.array([], held.type)
    return held.storage if isinstance(held, pa.ExtensionArray) else held


def _check_schema(schema: pa.Schema, types: dict[str, pa.DataType]) -> None:
    got = {
        field.name: field.type.storage_type
        if isinstance(field.type, pa.BaseExtensionType)
        else field.type
        for field in schema
    }
    if len(schema) != len(types) or got != types:
        wanted, found = (", ".join(f"{n}: {t}" for n, t in x.items()) for x in (types, got))
        raise DatasetError(f"expected the columns {wanted}; got {found}")


def _check_sizes(metadata: Any, info: ShardInfo) -> None:
    """As many rows as promised, and no column that is larger than its shard once it is read.

    A dictionary may stand for texts many times its size: ours are of numbers alone.
    """
    if metadata.num_rows != info.rows:
        raise DatasetError(f"expected {info.rows} rows, got {metadata.num_rows}")
    most = 2 * info.bytes + PER_ROW * info.rows + PER_FILE
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            if column.num_values > info.bytes or column.total_uncompressed_size > most:
                raise DatasetError(
                    f"expected at most {info.bytes:,} values and {most:,} bytes of "
                    f"{column.path_in_schema}, got {column.num_values:,} and "
                    f"{column.total_uncompressed_size:,}"
                )
            if column.physical_type == "BYTE_ARRAY" and column.has_dictionary_page:
                raise DatasetError(f"expected no dictionary of {column.path_in_schema}, got one")
