"""Any dataset on a Hub: recordings, images and arrays prepared, its files fetched and cleaned."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipeline.audio import Audio, load_audio
from pipeline.contents import Item, clean, contents
from pipeline.dataset import open_sealed
from pipeline.errors import BuildError, RecipeError, RemoteError
from pipeline.hub_files import CONVERTED, download, parquet_files, pinned
from pipeline.loader.opening import open_dataset
from pipeline.parquet_rows import read_rows
from pipeline.prepare import estimate, prepare_dataset
from pipeline.records import Piece
from tests.clips import recordings
from tests.hub import Hub
from tests.hub_words import REPO, ask, files, images, parquet, put_words, words


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
