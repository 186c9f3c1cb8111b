"""Datasets on a Hub on loopback, as others keep them: recordings and images in Parquet."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from pipeline.prepare import Request
from tests.clips import recordings
from tests.hub import Hub

REPO = "you/words"
CLASSES = {"label": {"names": ["ja", '<b>"nein"</b>'], "_type": "ClassLabel"}}


def ask(tmp_path: Path, params: str = "", **changes: object) -> Request:
    """A request for ``REPO``, serial, all of it in ``tmp_path``."""
    places = {"out": tmp_path / "out", "cache": tmp_path / "cache"}
    fixed = {"recipe": "hub", "params": f"repo={REPO},{params}", "engine": "serial"} | places
    return Request(**(fixed | changes))  # type: ignore[arg-type]


def parquet(columns: dict[str, pa.Array], features: dict[str, Any] | None = None) -> bytes:
    """A file of these columns, as ``datasets`` notes their features in it."""
    table = pa.table(columns)
    if features:
        noted = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": noted})
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=7)
    return out.getvalue()


def files(contents: list[bytes | None]) -> pa.Array:
    """A column of files."""
    held = [{"bytes": data, "path": f"{i}.x"} for i, data in enumerate(contents)]
    return pa.array(held, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


def words(clips: list[bytes]) -> bytes:
    """A file of recordings with labels of several types."""
    labels = pa.array([i % 2 for i in range(len(clips))])
    texts = pa.array([f"word {i}" if i else None for i in range(len(clips))])
    ages = pa.array([float(i) for i in range(len(clips))])
    columns = {"audio": files(clips), "label": labels, "text": texts, "age": ages, "an id": ages}
    return parquet(columns, CLASSES)


def put_words(
    hub: Hub, names: tuple[str, str] = ("data/test-0-of-1.parquet", "data/train-0-of-1.parquet")
) -> list[bytes]:
    """Commit 20 recordings in two files; the recordings."""
    clips = [data for _, data in recordings(20)]
    hub.put(REPO, names[0], words(clips[:14]))
    hub.put(REPO, names[1], words(clips[14:]))
    return clips


def images(count: int) -> list[bytes]:
    """Grey images, each of another shade, as PNG and BMP in turns."""
    found = []
    for i in range(count):
        out = io.BytesIO()
        Image.fromarray(np.full((8, 6), 10 * i, np.uint8)).save(out, "PNG" if i % 2 else "BMP")
        found.append(out.getvalue())
    return found
