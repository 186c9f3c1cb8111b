"""Published formats: exact, reproducible, readable by their own libraries, never trusted."""

import io
import itertools
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.cli import main
from pipeline.dataset import FORMAT, NAME, Sealed, open_sealed, seal
from pipeline.errors import DatasetError, OutputError, UsageError
from pipeline.features import Feature, LogMel, Mfcc, Pixels, Tokens, Vector, Waveform, to_dict
from pipeline.files import sha256_of, write_json
from pipeline.images import as_png
from pipeline.prepare import Request
from pipeline.publish.card import card
from pipeline.publish.config import Config
from pipeline.publish.export import export
from pipeline.publish.folder import check_datasets, configs_of
from pipeline.publish.media import as_audio, audio_ending, from_audio, from_png
from pipeline.publish.parquet import read_parquet, write_parquet
from pipeline.publish.text import write_text
from pipeline.publish.untar import read_webdataset
from pipeline.publish.webdataset import ending_of, write_webdataset
from pipeline.records import ShardInfo
from pipeline.rows import Rows, content_of, pieces
from pipeline.shard import Columns, read_shard, write_shard
from tests.conftest import recipe_module
from tests.sealed import Made, write_made

Array = npt.NDArray[Any]
Ask = Callable[..., Request]
Write = Callable[[Path, Sealed, ShardInfo], None]
Read = Callable[[Path, Sealed, ShardInfo], Iterator[Rows]]
LABELS = {
    "word": "class",
    "age": "int",
    "weight": "float",
    "said": "text",
    "spelt": "characters",
}


def bits(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Array:
    """Any values at all: NaN of every kind, -0.0, infinite ones."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(rng.bytes(size), dtype).reshape(shape)


def make_sealed(
    folder: Path, feature: Feature, shape: tuple[int | None, ...], rows: Sequence[Array]
) -> Sealed:
    """A sealed dataset of given features, train in two shards and a test."""
    folder.mkdir(parents=True)
    columns = Columns(LABELS, feature.dtype, shape)
    sidecars, half = [], (len(rows) + 1) // 2
    for name, first, last in (
        ("train-00000-of-00002", 0, half),
        ("train-00001-of-00002", half, len(rows)),
        ("test-00000-of-00001", 0, 1),
    ):
        numbers = range(first, last)
        labels: Mapping[str, Sequence[Any]] = {
            "word": [n % 3 for n in numbers],
            "age": [n - 5 for n in numbers],
            "weight": [n / 7 for n in numbers],
            "said": [f"näh.{n}\t" * (n % 3) for n in numbers],
            "spelt": [[1 + (n + i) % 4 for i in range(n % 3 * 5)] for n in numbers],
        }
        path = folder / f"{name}.arrow"
        write_shard(path, columns, [f"a.b/{n:04d}" for n in numbers], labels, rows[first:last])
        info = ShardInfo(name, last - first, path.stat().st_size, sha256_of(path))
        sidecars.append(asdict(info) | {"moments": None, "findings": [], "versions": {"n": "1"}})
    declaration = {
        "format": FORMAT,
        "recipe": {"name": "mini", "version": 1},
        "protocol": {"name": "all", "params": {}},
        "sources": {"main": "ab" * 32},
        "audio": None,
        "features": to_dict(feature),
    }
    corpus = {"title": "Mini", "licence": "CC0-1.0", "redistribution": "allowed"}
    extra = {"hints": {"target": "word"}, "corpus": corpus, "promised": {"train": None}}
    classes = {"word": ["no", "on", "yes"], "spelt": list(" ähn")}
    write_json(folder / NAME, seal(declaration, columns, classes, sidecars, extra))
    return open_sealed(folder)


def every_kind(folder: Path, seed: int = 0) -> Iterator[Sealed]:
    """A dataset of every kind of features, filled with any bits."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 9, 7)
    exact = rng.integers(-32768, 32768, 50).astype(np.float32) / np.float32(32768)
    minus_zero = exact.copy()
    minus_zero[3] = -0.0
    samples = [exact, minus_zero, exact[:0], bits(rng, (20,), "float32"), exact * 3]
    yield make_sealed(
        folder / "log_mel",
        LogMel.at(16000, n_mels=8),
        (None, 8),
        [bits(rng, (n, 8), "float32") for n in lengths],
    )
    yield make_sealed(
        folder / "float16",
        Mfcc.at(16000, n_mfcc=8, dtype="float16"),
        (4, 8),
        [bits(rng, (4, 8), "float16") for n in lengths],
    )
    yield make_sealed(folder / "floats", Waveform(16000, "float32"), (None,), samples)
    yield make_sealed(
        folder / "waveform",
        Waveform(22050, "int16"),
        (None,),
        [bits(rng, (n,), "int16") for n in lengths],
    )
    yield make_sealed(
        folder / "pixels", Pixels(5, 4), (5, 4), [bits(rng, (5, 4), "uint8") for _ in range(4)]
    )
    yield make_sealed(
        folder / "vector", Vector(5, 4), (20,), [bits(rng, (20,), "uint8") for _ in range(4)]
    )
    yield make_sealed(
        folder / "tokens", Tokens(10), (None,), [rng.integers(0, 10, n) for n in lengths]
    )


def shards(sealed: Sealed) -> list[ShardInfo]:
    return list(itertools.chain(*sealed.splits.values()))


def own_content(sealed: Sealed, info: ShardInfo) -> str:
    shard = read_shard(sealed.folder / f"{info.shard}.arrow", sealed.columns)
    return content_of(pieces(shard, sealed.columns))


@pytest.mark.parametrize(
    ("write", "read"), [(write_parquet, read_parquet), (write_webdataset, read_webdataset)]
)
@given(seed=st.integers(0, 1 << 30))
@settings(max_examples=5)
def test_every_format_gives_every_bit_back(
    write: Write, read: Read, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("kinds")
    for sealed in every_kind(folder, seed):
        for info in shards(sealed):
            path = folder / info.shard
            write(path, sealed, info)
            assert content_of(read(path, sealed, info)) == own_content(sealed, info)


def test_the_same_rows_give_the_same_files(tmp_path: Path) -> None:
    for write, ending in ((write_parquet, "parquet"), (write_webdataset, "tar")):
        for sealed in every_kind(tmp_path / ending):
            info = shards(sealed)[0]
            paths = [tmp_path / f"{n}.{ending}" for n in range(2)]
            for path in paths:
                write(path, sealed, info)
            first, second = (path.read_bytes() for path in paths)
            assert first == second


def test_pieces_change_no_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for sealed in every_kind(tmp_path):
        info = shards(sealed)[0]
        whole = own_content(sealed, info)
        with monkeypatch.context() as patch:
            patch.setattr("pipeline.rows.PIECE", 4)
            assert own_content(sealed, info) == whole
            path = tmp_path / "pieces.parquet"
            write_parquet(path, sealed, info)
            write_webdataset(tmp_path / "pieces.tar", sealed, info)
            patch.setattr("pipeline.publish.untar.PIECE", 4)
            assert len(list(read_webdataset(tmp_path / "pieces.tar", sealed, info))) == info.rows
            assert content_of(read_webdataset(tmp_path / "pieces.tar", sealed, info)) == whole
        assert pq.ParquetFile(path).num_row_groups > 1
        assert content_of(read_parquet(path, sealed, info)) == whole


def test_every_change_changes_the_hash(tmp_path: Path) -> None:
    sealed = next(every_kind(tmp_path))
    path = sealed.folder / f"{shards(sealed)[0].shard}.arrow"
    (rows,) = pieces(read_shard(path, sealed.columns), sealed.columns)
    hashes = {content_of([rows])}
    for name in ("keys", "lengths", "values"):
        column = getattr(rows, name)
        values = column.take(list(range(len(rows)))[::-1]) if name == "keys" else column[::-1]
        changed = {**vars(rows), name: values}
        hashes.add(content_of([type(rows)(**changed)]))
    for label in LABELS:
        reverse = rows.labels[label].take(list(range(len(rows)))[::-1])
        changed = {**vars(rows), "labels": {**rows.labels, label: reverse}}
        hashes.add(content_of([type(rows)(**changed)]))
    assert len(hashes) == 9


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=40))
def test_16_bit_samples_are_flac_whatever_they_are_stored_as(values: list[int]) -> None:
    samples = np.array(values, np.int16)
    for stored in (samples, samples.astype(np.float32) / np.float32(32768)):
        assert audio_ending(stored, 16000) == "flac"
        data = as_audio(stored, 16000, "flac")
        back = from_audio(data, 16000, str(stored.dtype), len(stored))
        assert back.tobytes() == stored.tobytes()


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


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (28, 28)])
def test_others_read_our_pngs(shape: tuple[int, ...]) -> None:
    import PIL.Image

    image = bits(np.random.default_rng(1), shape, "uint8")
    assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(as_png(image)))), image)
    if len(shape) == 2:
        assert np.array_equal(from_png(as_png(image), *shape), image)


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


def test_webdataset_members_hold_every_value(tmp_path: Path) -> None:
    for sealed in every_kind(tmp_path):
        info = sealed.splits["train"][1]
        path = tmp_path / "x.tar"
        write_webdataset(path, sealed, info)
        with tarfile.open(path) as tar:
            found = {m.name: tar.extractfile(m).read() for m in tar}  # type: ignore[union-attr]
        shard = read_shard(sealed.folder / f"{info.shard}.arrow", sealed.columns)
        names = sorted({name.partition(".")[0] for name in found})
        assert names == [f"{sealed.splits['train'][0].rows + i:08d}" for i in range(len(shard))]
        for row, name in enumerate(names):
            said = json.loads(found[f"{name}.json"])
            assert said["key"] == shard.keys[row].as_py()
            assert said["said"] == shard.labels["said"][row].as_py()
            assert said["spelt"] == shard.labels["spelt"][row].as_py()
            word = shard.labels["word"][row].as_py()
            assert said["word"] == sealed.classes["word"][word]
            assert int(found[f"{name}.cls"]) == word
            if f"{name}.npy" in found:
                back = np.load(io.BytesIO(found[f"{name}.npy"]), allow_pickle=False)
                assert back.tobytes() == shard.features(row).tobytes()


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


@pytest.mark.parametrize(
    ("dtype", "odd", "ending"),
    [
        ("int16", None, "flac"),
        ("int16", "no samples", "wav"),  # FLAC has no such file
        ("float32", None, "flac"),
        ("float32", "no samples", "wav"),
        ("float32", "between two steps", "wav"),
    ],
)
def test_tars_hold_flac_where_every_clip_is_16_bit(
    dtype: str, odd: str | None, ending: str, tmp_path: Path
) -> None:
    rng = np.random.default_rng(7)
    clips = [rng.integers(-32768, 32768, 30).astype(np.int16) for _ in range(5)]
    rows: list[Array] = [c if dtype == "int16" else c / np.float32(32768) for c in clips]
    if odd:
        rows[4] = rows[4][:0] if odd == "no samples" else rows[4] / np.float32(3)
    sealed = make_sealed(tmp_path / "data", Waveform(16000, dtype), (None,), rows)
    assert ending_of(sealed) == ending
    write_webdataset(tmp_path / "x.tar", sealed, sealed.splits["train"][0])
    with tarfile.open(tmp_path / "x.tar") as tar:
        for n, row in enumerate(rows[:3]):
            data = tar.extractfile(f"{n:08d}.{ending}").read()  # type: ignore[union-attr]
            assert from_audio(data, 16000, dtype, len(row)).tobytes() == row.tobytes()


def test_text_is_the_tutorials_to_the_byte(tmp_path: Path, digits_dataset: Path) -> None:
    sealed = open_sealed(digits_dataset)
    write_text(tmp_path, sealed, tuple(sealed.splits))
    recipe_module("digit_sum").tutorial(tmp_path / "all")
    lines = (tmp_path / "all").read_bytes().splitlines(keepends=True)
    for name, first, last in (("train", 0, 300), ("eval", 300, 400), ("test", 400, 500)):
        assert (tmp_path / f"{name}.txt").read_bytes() == b"".join(lines[first:last])


def test_text_is_for_tokens(tmp_path: Path) -> None:
    sealed = next(every_kind(tmp_path))
    with pytest.raises(UsageError, match="text is for tokens with a class, got log_mel"):
        write_text(tmp_path, sealed, ("train",))


def test_text_of_an_example_without_a_class_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    rows = [(f"x5²-{n}", {"sum": n - 1}, np.arange(3)) for n in range(3)]
    made = Made(Tokens(10), {"sum": "class"}, {"train": rows}, {"sum": ["zero", "one"]})
    write_made(folder, made)
    with pytest.raises(UsageError, match="example x5²-0 has no sum, which text can't say"):
        write_text(tmp_path, open_sealed(folder), ("train",))
    write_made(tmp_path / "whole", replace(made, splits={"train": rows[1:]}))
    (path,) = write_text(tmp_path, open_sealed(tmp_path / "whole"), ("train",))
    assert path.read_text() == "0 1 2\tzero\n0 1 2\tone\n"


def test_a_label_may_not_be_called_like_a_published_column(tmp_path: Path) -> None:
    from pipeline.publish.features import check_names

    sealed = next(every_kind(tmp_path))
    check_names(sealed)
    labels = {**LABELS, "num_frames": "int"}
    renamed = Sealed(**{**vars(sealed), "columns": Columns(labels, "float32", (None, 8))})
    with pytest.raises(DatasetError, match="its label 'num_frames' has the name"):
        check_names(renamed)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sealed]:
    folder = tmp_path_factory.mktemp("kinds")
    return {sealed.folder.name: sealed for sealed in every_kind(folder)}


@pytest.mark.parametrize(
    "name", ["log_mel", "float16", "floats", "waveform", "pixels", "vector", "tokens"]
)
def test_export_is_proven_and_whole(name: str, kinds: dict[str, Sealed], tmp_path: Path) -> None:
    """``export`` itself loads the folder with ``load_dataset`` and reads every row back."""
    sealed, ticked = kinds[name], []
    export(sealed.folder, "parquet", tmp_path / "out", (), ticked.append)
    assert sum(ticked) == 2 * sum(info.bytes for info in shards(sealed))
    assert not list(tmp_path.glob(".out.*folder"))
    with pytest.raises(OutputError, match="is there already"):
        export(sealed.folder, "parquet", tmp_path / "out", (), ticked.append)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset's own
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["log_mel", "floats", "waveform", "pixels", "vector", "tokens"])
def test_both_libraries_read_the_tars(name: str, kinds: dict[str, Sealed], tmp_path: Path) -> None:
    import webdataset

    sealed = kinds[name]
    export(sealed.folder, "webdataset", tmp_path / "out", ("train",), lambda done: None)
    tars = sorted(map(str, tmp_path.glob("out/*/*.tar")))
    read = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode("l8"))
    keys = [sample["json"]["key"] for sample in read]
    assert keys == [f"a.b/{n:04d}" for n in range(len(read))]
    assert len(read) == sealed.rows("train")
    stored = read_shard(sealed.folder / f"{shards(sealed)[0].shard}.arrow", sealed.columns)
    for ending in {"npy", "png"} & set(read[0]):
        assert read[1][ending].tobytes() == stored.features(1).tobytes()


def test_what_fails_leaves_nothing(
    kinds: dict[str, Sealed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = kinds["log_mel"].folder
    monkeypatch.setattr("pipeline.publish.folder.content_of", lambda rows: "0" * 64)
    with pytest.raises(DatasetError, match="loaded other rows than its shard's"):
        export(folder, "parquet", tmp_path / "out", (), lambda done: None)
    assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]


def test_the_card_tells_what_the_dataset_is(kinds: dict[str, Sealed]) -> None:
    from huggingface_hub import DatasetCard

    configs = configs_of([kinds["log_mel"].folder, kinds["floats"].folder])
    page = card("me/mini", configs, "parquet")
    told = DatasetCard(page).data.to_dict()
    assert told["license"] == "cc0-1.0"
    assert told["task_categories"] == ["audio-classification"]
    assert told["size_categories"] == "n<1K"
    assert [entry["config_name"] for entry in told["configs"]] == ["log_mel", "waveform"]
    assert [entry.get("default") for entry in told["configs"]] == [True, None]
    for part in (
        'load_dataset("me/mini", "log_mel")',
        'open_dataset("hf://datasets/me/mini:log_mel")',
        "pq.read_table",
        "| train | 7 | 2 |",
        "| yes | 2 | 0 |",
        "`n_mels=8`",
        "sha256 `abab",
        "protocol `all`",
        "`n=1`",
        "CC0-1.0",
        "No example was left out",
        "`word` (one of 3 classes), `age` (int)",
        "| split | examples | files | frames |",
    ):
        assert part in page, part


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("CC BY 4.0", {"license": "cc-by-4.0"}),
        ("CC BY-SA 4.0", {"license": "cc-by-sa-4.0"}),
        ("CC0-1.0 (generated)", {"license": "cc0-1.0"}),
        ("unclear: nobody knows", {"license": "unknown"}),
        ("MITRE's own", {"license": "other", "license_name": "mitre-s-own"}),
        ("public domain", {"license": "other", "license_name": "public-domain"}),
    ],
)
def test_licences_have_the_hubs_names(
    said: str, told: dict[str, str], kinds: dict[str, Sealed]
) -> None:
    from huggingface_hub import DatasetCard

    (config,) = configs_of([kinds["tokens"].folder])
    info = {**config.sealed.info, "corpus": {"title": "Mini", "licence": said}}
    changed = Config(config.name, Sealed(**{**vars(config.sealed), "info": info}), config.splits)
    data = DatasetCard(card("me/mini", [changed], "parquet")).data.to_dict()
    assert {name: data[name] for name in data if name.startswith("license")} == told


def test_the_snippets_run(
    kinds: dict[str, Sealed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("log_mel", "pixels", "vector", "tokens", "floats"):
        out = tmp_path / name
        export(kinds[name].folder, "parquet", out, (), lambda done: None)
        page = (out / "README.md").read_text()
        monkeypatch.chdir(out)
        codes = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
        assert len(codes) == 2
        for code in codes:
            where = f'load_dataset("{out}", cache_dir="{tmp_path}"'
            exec(code.replace(f'load_dataset("{name}"', where), {})  # our own page


@pytest.mark.parametrize(
    ("names", "splits", "message"),
    [
        ((), (), "would both be config 'log_mel': name each with --config"),
        (("a",), (), "1 names of configs for 2 datasets"),
        (("a", "../b"), (), "config '../b': expected letters"),
        (("a", "b"), ("dev",), "unknown split"),
    ],
)
def test_configs_must_have_names_of_their_own(
    names: tuple[str, ...], splits: tuple[str, ...], message: str, kinds: dict[str, Sealed]
) -> None:
    with pytest.raises(UsageError, match=message):
        configs_of([kinds["log_mel"].folder] * 2, names, splits)


def test_a_repository_has_one_corpus(kinds: dict[str, Sealed], digits_dataset: Path) -> None:
    with pytest.raises(UsageError, match="digit_sum and mini are several corpora"):
        configs_of([kinds["log_mel"].folder, digits_dataset])


def test_a_damaged_dataset_is_not_published(tmp_path: Path) -> None:
    sealed = next(every_kind(tmp_path))
    path = sealed.folder / f"{shards(sealed)[0].shard}.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="expected sha256"):
        check_datasets(configs_of([sealed.folder]), lambda done: None)


def test_export_on_the_command_line(
    digits_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "text"
    line = ["export", str(digits_dataset), "--format", "text", "--out", str(out)]
    assert main(line) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    assert sorted(path.name for path in out.iterdir()) == ["eval.txt", "test.txt", "train.txt"]
    assert main(line) == 1
    assert "is there already" in capsys.readouterr().err
    assert main([*line[:-1], str(tmp_path / "x"), "--split", "dev"]) == 2
