"""A small shard byte by byte, for ``docs/format.md``: ``python -m tests.shard_bytes``."""

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.shard import Columns, write_shard

PAGE = Path(__file__).parent.parent / "docs" / "format.md"
BEGIN, END = "<!-- made by python -m tests.shard_bytes -->\n```text\n", "```\n<!-- end -->"
BUFFERS = (
    "key: where each text begins, and the last one ends: 0, 3, 6 (int32)",
    'key: the texts, "one" and "two"',
    "sum: 3 and 7 (int64), one after the other",
    "features: where each list begins, and the last one ends: 0, 2, 5 (int32)",
    "features: the values 1 2 and 3 4 0 (int64)",
)


def example() -> bytes:
    """The file: ``one`` is 1 2 with the sum 3, ``two`` is 3 4 0 with the sum 7."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.arrow"
        values = [np.array(row) for row in ([1, 2], [3, 4, 0])]
        columns = Columns({"sum": "class"}, "int64", (None,))
        write_shard(path, columns, ["one", "two"], {"sum": [3, 7]}, values)
        return path.read_bytes()


def regions(data: bytes) -> Iterator[tuple[int, int, str]]:
    """(begin, end, what it is) of all bytes, in order."""
    (schema,) = struct.unpack_from("<i", data, 12)
    batch = 16 + schema
    (length,) = struct.unpack_from("<i", data, batch + 4)
    body = batch + 8 + length
    (footer,) = struct.unpack_from("<i", data, len(data) - 10)
    end = len(data) - 10 - footer
    yield 0, 8, "ARROW1 and two zeros, to a multiple of 8"
    yield 8, 16, f"a message begins: ffffffff, then its length, {schema}"
    yield 16, batch, "the schema (flatbuffer): names and types of the columns"
    yield batch, batch + 8, f"the next message: ffffffff, its length, {length}"
    yield (
        batch + 8,
        body,
        "the record batch's head (flatbuffer): rows, place and size of each buffer",
    )
    at = body
    for size, what in zip((12, 6, 16, 12, 40), BUFFERS, strict=True):
        yield at, at + size, what
        if size % 8:
            yield at + size, at + size + -size % 8, "zeros, to a multiple of 8"
        at += size + -size % 8
    yield at, at + 8, "the end of messages: ffffffff, a length of 0"
    yield at + 8, end, "zeros, to a multiple of 8" if end > at + 8 else ""
    yield end, len(data) - 10, "the footer (flatbuffer): the schema again, where the batch lies"
    yield len(data) - 10, len(data) - 6, f"the footer's length, {footer}"
    yield len(data) - 6, len(data), "ARROW1"


def dump() -> str:
    """What lies where, each region's first 16 bytes."""
    data, lines = example(), []
    for begin, end, what in regions(data):
        if begin < end:
            more = " …" if end - begin > 16 else ""
            shown = data[begin : min(end, begin + 16)].hex(" ") + more
            lines += [f"{begin:04x}–{end - 1:04x}  {what}", f"           {shown}"]
    return "\n".join(lines) + "\n"


def page() -> str:
    """The page with the dump in its place."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + dump() + END + rest.partition(END)[2]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
