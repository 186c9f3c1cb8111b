"""Published formats: every bit back, the same files each time, the coding that each needs."""

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.dataset import Sealed, open_sealed
from pipeline.errors import UsageError
from pipeline.features import Tokens, Waveform
from pipeline.images import as_png
from pipeline.publish.media import as_audio, audio_ending, from_audio, from_png
from pipeline.publish.parquet import read_parquet, write_parquet
from pipeline.publish.text import write_text
from pipeline.publish.untar import read_webdataset
from pipeline.publish.webdataset import ending_of, write_webdataset
from pipeline.records import ShardInfo
from pipeline.rows import Rows, content_of, pieces
from pipeline.shard import read_shard
from tests.conftest import recipe_module
from tests.kinds import LABELS, Array, bits, every_kind, make_sealed, own_content, shards
from tests.sealed import Made, write_made

Write = Callable[[Path, Sealed, ShardInfo], None]
Read = Callable[[Path, Sealed, ShardInfo], Iterator[Rows]]


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


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (28, 28)])
def test_others_read_our_pngs(shape: tuple[int, ...]) -> None:
    import PIL.Image

    image = bits(np.random.default_rng(1), shape, "uint8")
    assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(as_png(image)))), image)
    if len(shape) == 2:
        assert np.array_equal(from_png(as_png(image), *shape), image)


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
