"""Tables that people write, CSV, TSV and JSON lines, read with the line of every mistake.

CSV is quoted as in RFC 4180; in TSV a ``"`` is itself, as Common Voice and most speech corpora have
it. All are UTF-8, with or without a byte order mark.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

ENDINGS = (".csv", ".tsv", ".jsonl")
MARK = b"\xef\xbb\xbf"
LONGEST_FIELD = 1 << 24


@dataclass(frozen=True)
class Row:
    """One row: the line where it begins, and the text in each column, "" where there is none."""

    line: int
    values: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A table as far as it can be read; ``mistakes`` are pairs of a line and what is wrong."""

    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    mistakes: tuple[tuple[int, str], ...]


def read_table(name: str, data: bytes) -> Table:
    """Read a table whose kind its name's ending tells."""
    mistakes: list[tuple[int, str]] = []
    lines = list(_decoded(data.removeprefix(MARK), mistakes))
    if name.lower().endswith(".jsonl"):
        rows = list(_json_rows(lines, mistakes))
        columns = list(dict.fromkeys(column for row in rows for column in row.values))
    else:
        columns, rows = _delimited(lines, name.lower().endswith(".tsv"), mistakes)
    filled = [Row(row.line, {c: row.values.get(c, "") for c in columns}) for row in rows]
    return Table(tuple(columns), tuple(filled), tuple(mistakes))


def _decoded(data: bytes, mistakes: list[tuple[int, str]]) -> Iterator[str]:
    """The lines with their ends; what is not UTF-8 is a mistake of its line."""
    for number, line in enumerate(io.BytesIO(data), 1):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            text = line.decode(errors="replace")
            mistakes.append((number, f"not UTF-8 ({error.reason} at byte {error.start}): {text!r}"))
        if "\0" in text:
            mistakes.append((number, "holds a NUL character; is it UTF-16?"))
        yield text.replace("\0", "")


def _delimited(
    lines: Sequence[str], tabs: bool, mistakes: list[tuple[int, str]]
) -> tuple[list[str], list[Row]]:
    """Header and rows of CSV or TSV."""
    csv.field_size_limit(LONGEST_FIELD)
    reader = (
        csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        if tabs
        else csv.reader(lines, strict=True)
    )
    header: list[str] = []
    rows: list[Row] = []
    line = 1
    try:
        for fields in reader:
            if not header:
                header = [field.strip() for field in fields]
            elif fields and len(fields) != len(header):
                told = f"{len(fields)} fields, but the header has {len(header)}"
                mistakes.append((line, told))
            elif fields:
                rows.append(Row(line, dict(zip(header, fields, strict=True))))
            line = reader.line_num + 1
    except csv.Error as error:
        mistakes.append((line, f"not readable as CSV from here on: {error}"))
    for column, count in Counter(header).items():
        if not column or count > 1:
            mistakes.append((1, f"column {column!r}: expected every column to have its own name"))
    return list(dict.fromkeys(header)), rows


def _json_rows(lines: Sequence[str], mistakes: list[tuple[int, str]]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            json.dumps(values, ensure_ascii=False).encode()  # halves of characters are no text
        except (ValueError, RecursionError) as error:
            mistakes.append((number, f"not readable as JSON: {error}"))
            continue
        wrong = "the line" if not isinstance(values, dict) else _first_wrong(values)
        if wrong:
            mistakes.append((number, f"{wrong}: expected an object of texts and numbers"))
        else:
            yield Row(number, {c: "" if v is None else str(v) for c, v in values.items()})


def _first_wrong(values: dict[str, Any]) -> str | None:
    """The first column whose value is neither text nor number nor null."""
    for column, value in values.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float | None):
            return f"column {column}"
    return None
