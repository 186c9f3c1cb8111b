"""Any dataset on a Hub: its Parquet proven and read, recordings, images and arrays prepared."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.audio import Audio, load_audio
from pipeline.contents import Item, clean, contents
from pipeline.dataset import open_sealed
from pipeline.errors import (
    BuildError,
    ClipError,
    RecipeError,
    RemoteError,
    ShardwellError,
    SourceError,
)
from pipeline.hub_files import CONVERTED, download, parquet_files, pinned
from pipeline.loader.opening import open_dataset
from pipeline.parquet_rows import read_rows
from pipeline.prepare import Request, estimate, prepare_dataset
from pipeline.records import Piece
from recipes.hub import RECIPE
from tests.clips import BROKEN, recordings
from tests.hub import Hub, Repo, running_hub

REPO = "you/words"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with an empty dataset, which the library in this process takes for the only one."""
    with running_hub() as running:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr("pipeline.hub_files.client", lambda endpoint: api(running.endpoint))
        running.repos[REPO] = Repo("dataset", False)
        running.repos[REPO].commit({}, "main")
        yield running


def api(endpoint: str) -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=endpoint, token=False)


def ask(tmp_path: Path, params: str = "", **changes: object) -> Request:
    places = {"out": tmp_path / "out", "cache": tmp_path / "cache"}
    fixed = {"recipe": "hub", "params": f"repo={REPO},{params}", "engine": "serial"} | places
    return Request(**(fixed | changes))  # type: ignore[arg-type]


def parquet(columns: dict[str, pa.Array], features: dict[str, Any] | None = None) -> bytes:
    table = pa.table(columns)
    if features:
        noted = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": noted})
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=7)
    return out.getvalue()


def files(contents: list[bytes | None]) -> pa.Array:
    held = [{"bytes": data, "path": f"{i}.x"} for i, data in enumerate(contents)]
    return pa.array(held, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))


CLASSES = {"label": {"names": ["ja", '<b>"nein"</b>'], "_type": "ClassLabel"}}


def words(clips: list[bytes]) -> bytes:
    labels = pa.array([i % 2 for i in range(len(clips))])
    texts = pa.array([f"word {i}" if i else None for i in range(len(clips))])
    ages = pa.array([float(i) for i in range(len(clips))])
    columns = {"audio": files(clips), "label": labels, "text": texts, "age": ages, "an id": ages}
    return parquet(columns, CLASSES)


def put_words(
    hub: Hub, names: tuple[str, str] = ("data/test-0-of-1.parquet", "data/train-0-of-1.parquet")
) -> list[bytes]:
    clips = [data for _, data in recordings(20)]
    hub.put(REPO, names[0], words(clips[:14]))
    hub.put(REPO, names[1], words(clips[14:]))
    return clips


def test_recordings_are_prepared_with_their_labels(hub: Hub, tmp_path: Path) -> None:
    clips = put_words(hub)
    done = prepare_dataset(ask(tmp_path, features="waveform"))
    assert done.rows == {"train": 6, "test": 14}
    sealed = open_sealed(Path(done.folder))
    assert sealed.columns.labels == {"label": "class", "text": "text", "age": "float"}
    assert sealed.classes == {"label": ('<b>"nein"</b>', "ja")}
    commit = hub.repos[REPO].branches["main"]
    assert sealed.info["protocol"]["params"]["revision"] == commit
    data = open_dataset(done.folder)
    for split in data.values():
        for row, key in enumerate(split.column("key")):
            expected = load_audio([Piece(memoryview(clips[int(key)]))], Audio(16000))
            np.testing.assert_array_equal(np.asarray(split[row]["features"]), expected)
    asked = len(hub.asked)
    assert prepare_dataset(
        ask(tmp_path, f"revision={commit}", features="waveform", offline=True)
    ).up_to_date
    assert len(hub.asked) == asked


def test_a_new_commit_is_a_new_dataset(hub: Hub, tmp_path: Path) -> None:
    clips = put_words(hub)
    first = prepare_dataset(ask(tmp_path))
    assert prepare_dataset(ask(tmp_path)).up_to_date
    hub.put(REPO, "data/validation-0-of-1.parquet", words(clips[:5]))
    second = prepare_dataset(ask(tmp_path))
    assert second.rows == {"train": 6, "validation": 5, "test": 14}
    assert second.folder != first.folder


def test_broken_recordings_are_named(hub: Hub, tmp_path: Path) -> None:
    clips = [data for _, data in recordings(17)]
    hub.put(REPO, "train.parquet", words([*BROKEN.values(), *clips]))
    with pytest.raises(BuildError, match="3 bad clips, 0 allowed"):
        prepare_dataset(ask(tmp_path))
    assert prepare_dataset(ask(tmp_path, max_bad=3)).rows == {"train": 17}


def test_splits_are_made_by_a_column(hub: Hub, tmp_path: Path) -> None:
    put_words(hub, ("one.parquet", "two.parquet"))
    with pytest.raises(RecipeError, match=r"one.parquet: its name tells no split; make them with"):
        prepare_dataset(ask(tmp_path))
    done = prepare_dataset(ask(tmp_path, "splits=hash,group=text,shares=2+1+1"))
    data = open_dataset(done.folder)
    texts = [set(split.column("text")) for split in data.values()]
    assert sum(map(len, texts)) == len(set().union(*texts)) == 14
    with pytest.raises(RecipeError, match="no column who; there are label, text, age"):
        prepare_dataset(ask(tmp_path, "splits=hash,group=who"))


def test_the_hubs_own_conversion_is_taken(hub: Hub, tmp_path: Path) -> None:
    clips = [data for _, data in recordings(4)]
    repo = hub.repos[REPO]
    repo.commit({"x.zip": hub.file(b"PK", True)}, "main")
    repo.commit(
        {
            "a/train/0000.parquet": hub.file(words(clips), True),
            "b/partial-test/0000.parquet": hub.file(words(clips[:2]), True),
        },
        CONVERTED,
    )
    with pytest.raises(RecipeError, match=r"holds a, b; choose one, as config=a"):
        prepare_dataset(ask(tmp_path))
    assert prepare_dataset(ask(tmp_path, "config=a")).rows == {"train": 4}
    with pytest.raises(RecipeError, match="no config c; it has a, b"):
        prepare_dataset(ask(tmp_path, "config=c"))


def images(count: int) -> list[bytes]:
    found = []
    for i in range(count):
        out = io.BytesIO()
        Image.fromarray(np.full((8, 6), 10 * i, np.uint8)).save(out, "PNG" if i % 2 else "BMP")
        found.append(out.getvalue())
    return found


def test_images_are_prepared_as_pixels(hub: Hub, tmp_path: Path) -> None:
    held = [*images(9), b"no image"]
    hub.put(REPO, "train.parquet", parquet({"image": files(held), "digit": pa.array(range(10))}))
    asked = "pixels:height=8,width=6"
    done = prepare_dataset(ask(tmp_path, features=asked, max_bad=1))
    split = open_dataset(done.folder)["train"]
    assert len(split) == 9
    for row, key in enumerate(split.column("key")):
        assert np.allclose(split[row]["features"], 10 * int(key) / 255)
        assert split[row]["digit"] == int(key)
    with pytest.raises(BuildError, match="an image: prepare images with --features pixels"):
        prepare_dataset(ask(tmp_path))


def test_arrays_are_samples_pixels_or_tokens(hub: Hub, tmp_path: Path) -> None:
    samples = [np.linspace(-0.5, 0.5, 800 + i, dtype=np.float32) for i in range(3)]
    tokens = [[i, 1, 2] for i in range(3)]
    pixels = [np.full((4, 4), i, np.uint8).tolist() for i in range(3)]
    columns = {
        "samples": pa.array([list(map(float, s)) for s in samples], pa.list_(pa.float32())),
        "tokens": pa.array(tokens),
        "pixels": pa.array(pixels),
    }
    hub.put(REPO, "test.parquet", parquet(columns))
    split = open_dataset(prepare_dataset(ask(tmp_path, features="waveform")).folder)["test"]
    for row, key in enumerate(split.column("key")):
        np.testing.assert_array_equal(np.asarray(split[row]["features"]), samples[int(key)])
    done = prepare_dataset(ask(tmp_path, "column=tokens", features="tokens"))
    split = open_dataset(done.folder)["test"]
    assert sorted(split[i]["features"].tolist() for i in range(3)) == tokens
    done = prepare_dataset(ask(tmp_path, "column=pixels", features="pixels:height=4,width=4"))
    assert len(open_dataset(done.folder)["test"]) == 3


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


def test_rows_without_an_array_are_bad_clips(hub: Hub, tmp_path: Path) -> None:
    rows = [[[1, 2], [3, 4]], [[1, 2], [3]], None, [[1, None], [2, 3]]]
    held = pa.array(rows, pa.list_(pa.list_(pa.int64())))
    kinds = pa.array(["a", "b", "a", "b"]).dictionary_encode()
    hub.put(REPO, "train.parquet", parquet({"image": held, "kind": kinds}))
    done = prepare_dataset(ask(tmp_path, features="pixels:height=2,width=2", max_bad=3))
    assert (done.rows, done.bad) == ({"train": 1}, 3)
    assert open_sealed(Path(done.folder)).columns.labels == {"kind": "text"}


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


def test_a_cut_line_goes_on_and_nothing_stays_behind(hub: Hub, tmp_path: Path) -> None:
    put_words(hub)
    hub.faults = [("(GET|HEAD) .*train.*parquet", 403)]
    with pytest.raises(RemoteError):
        prepare_dataset(ask(tmp_path))
    hub.faults = []
    fetched = hub.count("GET .*resolve.*test.*parquet")
    assert prepare_dataset(ask(tmp_path)).rows == {"train": 6, "test": 14}
    assert hub.count("GET .*resolve.*test.*parquet") == fetched
    assert [path.suffix for path in (tmp_path / "cache" / "generated").glob("[!.]*")] == [".tar"]


def test_files_of_a_hub_are_cleaned_once_nobody_reads_them(hub: Hub, tmp_path: Path) -> None:
    """Another config or column of the dataset would have brought them to the same folder."""
    put_words(hub)
    hub.put(REPO, "data/validation.parquet", b"PAR1 is not enough")
    seen: list[list[Item]] = []

    def leftovers() -> list[Item]:
        kinds = ("leftovers",)
        return [item for item in contents(tmp_path / "cache", {}) if item.kind in kinds]

    def read(*given: Any) -> Iterator[Any]:
        (item,) = (i for i in leftovers() if i.about.startswith("you--words-"))
        seen.append(clean([item]))
        yield from read_rows(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.parquet_rows.read_rows", read)
        with pytest.raises(RecipeError, match="not readable as Parquet"):
            prepare_dataset(ask(tmp_path))
    assert seen == [[], [], []]
    (item,) = leftovers()
    assert item.about == f"you--words-{hub.repos[REPO].branches['main'][:8]}"
    assert item.bytes > 10_000
    assert clean([item]) == [item]
    assert not leftovers()


def test_an_estimate_downloads_nothing(hub: Hub, tmp_path: Path) -> None:
    put_words(hub)
    assert not estimate(ask(tmp_path)).exact
    assert hub.count("resolve") == 0


def test_small_files_are_held_against_their_git_hash(hub: Hub, tmp_path: Path) -> None:
    repo = hub.repos[REPO]
    repo.commit({"train.parquet": hub.file(b"some bytes", False)}, "main")
    commit = pinned(REPO, "main")
    (file,) = parquet_files(REPO, commit)
    assert file.sha256 is None
    assert download(REPO, commit, file, tmp_path).read_bytes() == b"some bytes"
    stored = repo.files("main")[1]["train.parquet"]
    hub.blobs[stored.sha256] = b"some_bytes"
    with pytest.raises(RemoteError, match=r"expected the hash [0-9a-f]{40}, got"):
        download(REPO, commit, file, tmp_path / "again")
