"""A person's own folder: prepared as it is, hashed once, known by what is in it."""

import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio import Audio, load_audio
from pipeline.cli import main
from pipeline.dataset import open_sealed, verify
from pipeline.errors import BuildError
from pipeline.fetch.local import walk
from pipeline.loader.opening import open_dataset
from pipeline.prepare import estimate, prepare_dataset
from pipeline.publish.card import card
from pipeline.publish.folder import configs_of
from pipeline.records import Piece
from tests.clips import BROKEN, CLASSES, ask, recordings, shares

MANIFESTS = Path(__file__).parent.parent / "manifests"


@pytest.mark.parametrize("features", ["mfcc", "log_mel:n_mels=40", "waveform"])
@pytest.mark.parametrize(
    "engine", ["serial", "local", pytest.param("dask", marks=pytest.mark.slow)]
)
def test_a_folder_of_mixed_recordings_is_prepared(
    own_folder: Path, tmp_path: Path, features: str, engine: str
) -> None:
    for name, data in BROKEN.items():
        (own_folder / "ja" / name).write_bytes(data)
    request = ask(
        own_folder, tmp_path, features=features, engine=engine, workers=2, params="seed=3"
    )
    with pytest.raises(BuildError, match="3 bad clips, 0 allowed") as caught:
        prepare_dataset(request)
    assert "ja/text.wav: not readable as audio" in str(caught.value)
    assert "(source data/ja/text.wav, bytes 0 to 24)" in str(caught.value)
    assert "ja/empty.wav: not readable as audio (an empty file)" in str(caught.value)
    request = ask(own_folder, tmp_path, features=features, max_bad=3, params="seed=3")
    done = prepare_dataset(request)
    assert sum(done.rows.values()) == 20
    assert done.bad == 3
    assert verify(Path(done.folder), lambda size: None) == []
    sealed = open_sealed(Path(done.folder))
    assert sealed.classes == {"label": tuple(sorted(CLASSES))}
    assert sealed.info["audio"]["sample_rate"] == 16000


def test_samples_and_labels_are_those_of_the_files(own_folder: Path, tmp_path: Path) -> None:
    data = open_dataset(prepare_dataset(ask(own_folder, tmp_path, features="waveform")).folder)
    found = {}
    for split in data.values():
        for row, key in enumerate(split.column("key")):
            label = split.classes["label"][split[row]["label"]]
            assert label == key.split("/")[0]
            found[key] = np.asarray(split[row]["features"])
    assert len(found) == 20
    for key, samples in found.items():
        piece = Piece(memoryview((own_folder / key).read_bytes()))
        np.testing.assert_array_equal(samples, load_audio([piece], Audio(16000)))


def test_a_folder_is_known_by_content_not_by_name_or_time(own_folder: Path, tmp_path: Path) -> None:
    first = prepare_dataset(ask(own_folder, tmp_path))
    moved = tmp_path / "elsewhere"
    shutil.copytree(own_folder, moved)
    (moved / "ja" / ".DS_Store").write_bytes(b"hidden")
    (moved / "notes.txt").write_text("not a recording")
    again = prepare_dataset(ask(moved, tmp_path))
    assert again.up_to_date
    assert again.folder == first.folder
    name, data = next(recordings(1))
    (moved / "ja" / name).write_bytes(data + b"\0")
    assert prepare_dataset(ask(moved, tmp_path)).folder != first.folder


def test_what_was_hashed_is_trusted_by_path_size_and_time(
    own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare_dataset(ask(own_folder, tmp_path))
    read: list[str] = []
    monkeypatch.setattr(
        "pipeline.fetch.local.sha256_of", lambda path: read.append(path.name) or "0"
    )
    assert prepare_dataset(ask(own_folder, tmp_path)).folder == first.folder
    assert read == []
    os.utime(own_folder / "ja" / "clip00.wav", ns=(1, 1))
    assert prepare_dataset(ask(own_folder, tmp_path)).folder != first.folder
    assert read == ["clip00.wav"]


def test_a_tar_of_the_folder_gives_the_same_examples(own_folder: Path, tmp_path: Path) -> None:
    packed = tmp_path / "words.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(own_folder, "my words")
    assert shares(ask(packed, tmp_path)) == shares(ask(own_folder, tmp_path))


def test_a_link_within_the_folder_is_a_file(own_folder: Path) -> None:
    (own_folder / "ja" / "twice.wav").symlink_to(own_folder / "ja" / "clip00.wav")
    assert "ja/twice.wav" in walk(own_folder.resolve())


def test_an_estimate_of_a_folder_is_exact(own_folder: Path, tmp_path: Path) -> None:
    found = estimate(ask(own_folder, tmp_path))
    assert found.exact
    assert sum(count or 0 for count in found.rows.values()) == 20


def test_the_command_takes_the_folder_as_it_lies(
    own_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--out", f"{tmp_path / 'out'}", "--cache", f"{tmp_path / 'cache'}"]
    common = [*places, "--engine", "serial", "--quiet", "--features", "log_mel"]
    assert main(["prepare", "folder", str(own_folder), *common]) == 0
    told = capsys.readouterr()
    assert "prepared: train" in told.out
    assert "classes are the folders in ./" in told.err
    assert "splits are made by a hash: shares 8+1+1, seed 0" in told.err
    assert main(["prepare", "folder", "--source", f"data={own_folder}", *common]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == told.out.splitlines()[-1]
    assert main(["prepare", "folder", *common]) == 2
    assert "shardwell prepare folder PATH" in capsys.readouterr().err


def test_names_are_no_html_on_a_card(own_folder: Path, tmp_path: Path) -> None:
    (own_folder / CLASSES[2] / "<i>.wav").touch()
    done = prepare_dataset(ask(own_folder, tmp_path, max_bad=1, params="seed=3"))
    page = card("me/own", configs_of([Path(done.folder)]), "parquet")
    assert '| &lt;b&gt;"né" &amp; co |' in page
    assert "&lt;i&gt;.wav" in page
    assert "<i>" not in page


@pytest.mark.parametrize("stored", ["folder", "url"])
def test_a_licence_may_be_stated_after_the_build(
    own_folder: Path, tmp_path: Path, stored: str
) -> None:
    root = tmp_path / "out"
    out = root if stored == "folder" else f"file://{root}"
    first = prepare_dataset(ask(own_folder, tmp_path, out=out))
    (made,) = root.glob("folder/own-*")
    shards = {path: path.stat().st_mtime_ns for path in made.glob("*.arrow")}
    page = card("me/own", configs_of([made]), "parquet")
    assert "example.org" not in page
    assert "<>" not in page
    assert "license_link" not in page
    told = (MANIFESTS / "folder.toml").read_text()
    told = told.replace('"unknown"', '"allowed"\nhomepage = "https://me.example/words"')
    (tmp_path / "mine.toml").write_text(told)
    mine = ask(own_folder, tmp_path, out=out, manifest=tmp_path / "mine.toml")
    for _ in range(2):
        again = prepare_dataset(mine)
        assert (again.folder, again.up_to_date) == (first.folder, True)
        corpus = open_sealed(made).info["corpus"]
        assert corpus["redistribution"] == "allowed"
        assert "(<https://me.example/words>)" in card("me/own", configs_of([made]), "parquet")
    assert shards == {path: path.stat().st_mtime_ns for path in made.glob("*.arrow")}
    assert verify(made, lambda size: None) == []


def test_a_strangers_recipe_may_take_own_data_too(own_folder: Path, tmp_path: Path) -> None:
    """Without ``files`` all that is visible in the folder is read, a list beside the clips say."""
    (own_folder / "list.txt").write_text("\n".join(sorted(p.name for p in own_folder.glob("ja/*"))))
    (tmp_path / "mine.py").write_text(
        "from pipeline.audio import Audio, load_audio\n"
        "from pipeline.recipe import Recipe\n"
        "from pipeline.records import Example\n"
        "def examples(corpus):\n"
        "    for name in corpus.read_text('words', 'list.txt').split():\n"
        "        yield Example(name, 'train', (corpus.ref('words', f'ja/{name}'),))\n"
        "RECIPE = Recipe('mine', 1, {}, ('waveform',), examples, load_audio, Audio(8000),\n"
        "                foreign=True)\n"
    )
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\ntitle = "Mine"\nlicence = "CC0"\nhomepage = "-"\ncitation = "-"\n'
        '[sources.here]\nfile = "words"\nown = true\n'
        '[protocols.all]\nabout = "All."\nsources.words = "here"\nsplits.train = 7\n'
    )
    done = prepare_dataset(ask(own_folder, tmp_path, recipe=f"{tmp_path / 'mine.py'}"))
    assert done.rows == {"train": 7}
