"""What is wrong with a dataset on a Hub: bad clips are counted, all else ends it in one line."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.audio import Audio
from pipeline.dataset import open_sealed
from pipeline.errors import (
    BuildError,
    ClipError,
    RecipeError,
    RemoteError,
    ShardwellError,
    SourceError,
)
from pipeline.prepare import prepare_dataset
from pipeline.records import Piece
from recipes.hub import RECIPE
from tests.clips import BROKEN, recordings
from tests.hub import Hub
from tests.hub_words import REPO, ask, files, parquet, put_words, words


def test_broken_recordings_are_named(hub: Hub, tmp_path: Path) -> None:
    clips = [data for _, data in recordings(17)]
    hub.put(REPO, "train.parquet", words([*BROKEN.values(), *clips]))
    with pytest.raises(BuildError, match="3 bad clips, 0 allowed"):
        prepare_dataset(ask(tmp_path))
    assert prepare_dataset(ask(tmp_path, max_bad=3)).rows == {"train": 17}


def test_rows_without_an_array_are_bad_clips(hub: Hub, tmp_path: Path) -> None:
    rows = [[[1, 2], [3, 4]], [[1, 2], [3]], None, [[1, None], [2, 3]]]
    held = pa.array(rows, pa.list_(pa.list_(pa.int64())))
    kinds = pa.array(["a", "b", "a", "b"]).dictionary_encode()
    hub.put(REPO, "train.parquet", parquet({"image": held, "kind": kinds}))
    done = prepare_dataset(ask(tmp_path, features="pixels:height=2,width=2", max_bad=3))
    assert (done.rows, done.bad) == ({"train": 1}, 3)
    assert open_sealed(Path(done.folder)).columns.labels == {"kind": "text"}


def npy(described: str) -> bytes:
    """The head of a .npy, and nothing behind it."""
    head = described.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
HOSTILE = [
    (b"", "its row holds no file"),
    (b"\x93NUMPY\x01\x00 and no more", "not readable as an array"),
    (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}"), "as an array"),
    (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"), "as an array"),
    (npy("{'descr': '<U0', 'fortran_order': False, 'shape': (1,)}"), "an array of numbers, got <U"),
]


@pytest.mark.parametrize(("content", "message"), HOSTILE)
@pytest.mark.parametrize("audio", [Audio(16000), None])
def test_hostile_contents_are_bad_clips(content: bytes, message: str, audio: Audio | None) -> None:
    with pytest.raises(ClipError, match=message):
        RECIPE.load([Piece(memoryview(content))], audio)


def test_no_other_program_reads_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *a, **k: asked.append(a))
    with pytest.raises(ClipError, match="not readable as an image"):
        RECIPE.load([Piece(memoryview(EPS))], None)
    assert not asked


def other_bytes(hub: Hub) -> None:
    put_words(hub)
    file = hub.repos[REPO].files("main")[1]["data/test-0-of-1.parquet"]
    hub.blobs[file.sha256] = hub.blobs[file.sha256][:-1] + b"?"


def no_parquet(hub: Hub) -> None:
    hub.put(REPO, "x.zip", b"PK")


def not_parquet(hub: Hub) -> None:
    hub.put(REPO, "train.parquet", b"PAR1 is not enough")


def no_media(hub: Hub) -> None:
    hub.put(REPO, "train.parquet", parquet({"a": pa.array(["x"]), "b": pa.array([1])}))


def nulls(hub: Hub) -> None:
    clip = next(recordings(1))[1]
    hub.put(REPO, "train.parquet", parquet({"x": files([clip]), "n": pa.array([None], pa.int64())}))


def no_utf8(hub: Hub) -> None:
    buffers = pa.array([b"\xff"]).buffers()
    texts = pa.Array.from_buffers(pa.string(), 1, buffers)
    hub.put(REPO, "train.parquet", parquet({"x": files([b""]), "t": texts}))


def large(hub: Hub) -> None:
    numbers = pa.array([1 << 63], pa.uint64())
    hub.put(REPO, "train.parquet", parquet({"x": files([b""]), "n": numbers}))


@pytest.mark.parametrize(
    ("spoil", "params", "error", "message"),
    [
        (no_utf8, "", RecipeError, "train.parquet: not readable as Parquet: 'utf-8' codec"),
        (large, "", RecipeError, "label n: 9223372036854775808 takes more than 64 bits"),
        (other_bytes, "", RemoteError, r"expected the hash [0-9a-f]{64}, got [0-9a-f]{64}"),
        (no_parquet, "", RemoteError, "no such revision"),
        (not_parquet, "", RecipeError, "train.parquet: not readable as Parquet"),
        (no_media, "", RecipeError, "no column of recordings, images or arrays: a, b"),
        (no_media, "column=a", RecipeError, "column a: expected recordings, images or arrays: str"),
        (nulls, "", RecipeError, "row 0: n is empty; leave it out with leave=n"),
        (put_words, "key=nothing", RecipeError, "no column nothing; there are label"),
        (put_words, "splits=x", ShardwellError, "splits=x: expected given or hash"),
        (put_words, "repo=../x", ShardwellError, "expected the name of a dataset, as user/name"),
        (put_words, "repo=you/none", RemoteError, "no such dataset, or it is private"),
        (put_words, "repo=", ShardwellError, "name the dataset, as --params repo=user/name"),
    ],
)
def test_what_is_wrong_is_told(
    hub: Hub, tmp_path: Path, spoil: Any, params: str, error: type, message: str
) -> None:
    spoil(hub)
    with pytest.raises(error, match=message):
        prepare_dataset(ask(tmp_path, params))
    assert not list((tmp_path / "out").rglob("*.arrow"))


def test_offline_needs_a_commit(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="main may have moved and --offline forbids to look"):
        prepare_dataset(ask(tmp_path, offline=True))
    assert not hub.asked
