"""Published files that lie: refused in one line, whatever they claim, before it is believed."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import DatasetError
from pipeline.features import Waveform
from pipeline.images import as_png
from pipeline.publish.media import as_audio, from_audio, from_png
from pipeline.publish.parquet import read_parquet, write_parquet
from pipeline.publish.untar import read_webdataset
from pipeline.publish.webdataset import write_webdataset
from pipeline.rows import content_of
from tests.kinds import every_kind, make_sealed, shards


def test_what_is_no_file_of_ours_is_refused() -> None:
    samples = np.arange(50, dtype=np.int16)
    flac, wav = as_audio(samples, 8000, "flac"), as_audio(samples, 8000, "wav")
    for data, rate, dtype, n in (
        (flac, 16000, "int16", 50),
        (flac, 8000, "int16", 49),
        (flac[:60], 8000, "int16", 50),
        (b"OggS" + flac, 8000, "int16", 50),
        (wav, 8000, "float32", 50),
        (wav, 8000, "int16", 51),
        (wav + b"\0", 8000, "int16", 50),
        (b"", 8000, "int16", 0),
    ):
        with pytest.raises(DatasetError):
            from_audio(data, rate, dtype, n)
    png = as_png(np.zeros((5, 4), np.uint8))
    colours = as_png(np.zeros((5, 4, 3), np.uint8))
    bomb = as_png(np.zeros((5000, 4), np.uint8))
    bomb = png[:33] + bomb[33:]  # says that it is small
    flipped = png[:45] + bytes([png[45] ^ 1]) + png[46:]
    for data, height in (
        (png, 4),
        (png[:40], 5),
        (b"GIF89a", 5),
        (colours, 5),
        (bomb, 5),
        (flipped, 5),
        (png + b"\0", 5),
    ):
        with pytest.raises(DatasetError):
            from_png(data, height, 4)


def lie(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path, use_dictionary=False)


def replaced(name: str, values: Any, kind: pa.DataType) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        at = table.schema.get_field_index(name)
        return table.set_column(at, name, pa.array(values, kind))

    return change


SPECTRA = pa.list_(pa.list_(pa.float32()))
LIES = {
    "rows": (lambda table: table.slice(1), "expected 4 rows, got 3"),
    "columns": (lambda table: table.drop_columns(["said"]), "expected the columns key: string"),
    "widths": (replaced("features", [[[0.0] * 9]] * 4, SPECTRA), "expected rows of 8 values"),
    "nulls": (replaced("features", [[[None] * 8]] * 4, SPECTRA), "got 32 nulls among them"),
    "no row": (replaced("features", [None] * 4, SPECTRA), "expected no nulls, got 4"),
    "no frame": (replaced("features", [[None]] * 4, SPECTRA), "got other widths"),
    "lengths": (replaced("num_frames", [7] * 4, pa.int32()), "not the lengths of the features"),
    "classes": (replaced("word", [3] * 4, pa.int64()), "label word: expected classes 0 to 2"),
    "characters": (
        replaced("spelt", [[5]] * 4, pa.list_(pa.int64())),
        "label spelt: expected token ids 1 to 4",
    ),
    "no character": (
        replaced("spelt", [[None]] * 4, pa.list_(pa.int64())),
        "got 4 nulls among them",
    ),
    "types": (replaced("age", [1.5] * 4, pa.float64()), "expected the columns"),
    "bomb": (replaced("features", [[[0.0] * 8] * 9999] * 4, SPECTRA), "expected at most"),
    "long text": (replaced("said", ["a" * 9_999_999] * 4, pa.string()), "expected at most"),
}


@pytest.mark.parametrize("name", LIES)
def test_parquet_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    change, message = LIES[name]
    sealed = next(every_kind(tmp_path))
    info = shards(sealed)[0]
    path = tmp_path / f"{info.shard}.parquet"
    write_parquet(path, sealed, info)
    lie(path, change)
    with pytest.raises(DatasetError, match=f"^{info.shard}.parquet: .*{message}") as caught:
        content_of(read_parquet(path, sealed, info))
    assert "\n" not in str(caught.value)


def test_a_dictionary_of_texts_is_refused(tmp_path: Path) -> None:
    """One text, and a number for each of a million rows, would be a million texts in memory."""
    sealed = next(every_kind(tmp_path))
    info = shards(sealed)[0]
    path = tmp_path / "x.parquet"
    write_parquet(path, sealed, info)
    pq.write_table(pq.read_table(path), path, use_dictionary=["said"])
    with pytest.raises(DatasetError, match="expected no dictionary of said"):
        content_of(read_parquet(path, sealed, info))


@pytest.mark.parametrize("kept", [0, 10, -10])
def test_parquet_that_is_cut_short_is_one_line(kept: int, tmp_path: Path) -> None:
    sealed = next(every_kind(tmp_path))
    info = shards(sealed)[0]
    path = tmp_path / "x.parquet"
    write_parquet(path, sealed, info)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DatasetError, match="not readable as Parquet") as caught:
        content_of(read_parquet(path, sealed, info))
    assert "\n" not in str(caught.value)


def retarred(
    path: Path, change: Callable[[dict[str, tarfile.TarInfo], dict[str, bytes]], Any]
) -> None:
    """Another tar in its place, of members that ``change`` changed."""
    with tarfile.open(path) as tar:
        infos = {member.name: member for member in tar}
        held = {name: tar.extractfile(m).read() for name, m in infos.items()}  # type: ignore[union-attr]
    change(infos, held)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, member in infos.items():
            data = held.get(name, b"")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def said(name: str, value: Any) -> Callable[[Any, dict[str, bytes]], Any]:
    def change(infos: Any, held: dict[str, bytes]) -> None:
        row = json.loads(held["00000000.json"])
        held["00000000.json"] = json.dumps(row | {name: value}).encode()

    return change


def first(**values: Any) -> Callable[[dict[str, tarfile.TarInfo], Any], Any]:
    def change(infos: dict[str, tarfile.TarInfo], held: Any) -> None:
        for name, value in values.items():
            setattr(infos["00000000.json"], name, value)

    return change


def replaced_file(data: bytes) -> Callable[[Any, dict[str, bytes]], Any]:
    return lambda infos, held: held.update({"00000000.npy": data})


NPY = io.BytesIO()
np.save(NPY, np.zeros((2, 8), "f8"))
TAR_LIES: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "name": (
        first(name="../../evil.json"),
        r"expected the file 00000000.json, got '../../evil.json'",
    ),
    "link": (
        first(type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        "expected the file 00000000.json",
    ),
    "sparse": (
        first(pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": str(1 << 40)}),
        "expected the file 00000000.json, got one that is not plain",
    ),
    "extended header": (
        first(pax_headers={"comment": "x"}),
        "expected the file 00000000.json, got one that is not plain",
    ),
    "order": (
        lambda infos, held: infos.update({"00000000.json": infos.pop("00000000.json")}),
        "expected the file 00000000.json, got '00000000.cls'",
    ),
    "too few": (lambda infos, held: infos.popitem(), "expected the file 00000003.npy, got none"),
    "too many": (
        lambda infos, held: infos.update({"x": tarfile.TarInfo("00000004.json")}),
        "expected 4 rows, got more",
    ),
    "no JSON": (
        lambda infos, held: held.update({"00000000.json": b"[" * 100_000}),
        "labels that are none of this dataset's: RecursionError",
    ),
    "no object": (
        lambda infos, held: held.update({"00000000.json": b"[1]"}),
        "labels that are none of this dataset's: TypeError",
    ),
    "key": (said("key", 7), "labels that are none of this dataset's: AttributeError"),
    "class": (said("word", "never"), "labels that are none of this dataset's: KeyError"),
    "integer": (said("age", 1 << 70), "labels that are none of this dataset's: OverflowError"),
    "text": (said("said", "\ud800"), "labels that are none of this dataset's: UnicodeEncodeError"),
    "characters": (said("spelt", [9]), "label spelt: expected token ids 1 to 4"),
    "null": (said("said", None), "column said: expected no nulls, got 1"),
    "type": (replaced_file(NPY.getvalue()), r"expected a .npy of float32, \(n, 8\)"),
    "pickle": (replaced_file(b"\x80\x04N."), r"expected a .npy of float32, \(n, 8\)"),
    "cut": (replaced_file(NPY.getvalue()[:100]), r"expected a .npy of float32, \(n, 8\)"),
}


@pytest.mark.parametrize("name", TAR_LIES)
def test_a_tar_that_lies_is_refused(name: str, tmp_path: Path) -> None:
    change, message = TAR_LIES[name]
    sealed = next(every_kind(tmp_path))
    info = shards(sealed)[0]
    path = tmp_path / f"{info.shard}.tar"
    write_webdataset(path, sealed, info)
    retarred(path, change)
    with pytest.raises(DatasetError, match=f"^{info.shard}.tar: .*{message}") as caught:
        content_of(read_webdataset(path, sealed, info))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 10, 700, 1500])
def test_a_tar_that_is_cut_short_is_one_line(kept: int, tmp_path: Path) -> None:
    sealed = next(every_kind(tmp_path))
    info = shards(sealed)[0]
    path = tmp_path / "x.tar"
    write_webdataset(path, sealed, info)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DatasetError, match=f"^{info.shard}.tar: ") as caught:
        content_of(read_webdataset(path, sealed, info))
    assert "\n" not in str(caught.value)


def test_a_flac_that_claims_more_than_its_shard_is_not_decoded(tmp_path: Path) -> None:
    sealed = make_sealed(
        tmp_path / "data", Waveform(16000, "int16"), (None,), [np.zeros(9, np.int16)] * 4
    )
    info = shards(sealed)[0]
    path = tmp_path / "x.tar"
    write_webdataset(path, sealed, info)
    long = as_audio(np.zeros(1 << 20, np.int16), 16000, "flac")  # 13 kB
    retarred(path, lambda infos, held: held.update({"00000000.flac": long}))
    with pytest.raises(DatasetError, match=f"expected at most {info.bytes:,} samples, got 1,048,"):
        content_of(read_webdataset(path, sealed, info))
