"""A person's own folder: prepared as it is, hashed once, and told what is wrong with it."""

import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.audio import Audio, load_audio
from pipeline.build import Job, build
from pipeline.cli import main
from pipeline.dataset import open_sealed, verify
from pipeline.errors import BuildError, RecipeError, ShardwellError, SourceError, UsageError
from pipeline.fetch.local import walk
from pipeline.loader.opening import open_dataset
from pipeline.manifest import PROMISED
from pipeline.prepare import Request, estimate, prepare_dataset
from pipeline.publish.card import card
from pipeline.publish.folder import configs_of
from pipeline.records import Piece, Task
from pipeline.splits import share_out, split_named
from tests.clips import BROKEN, recordings, write_folder

MANIFESTS = Path(__file__).parent.parent / "manifests"
CLASSES = ("ja", "nein", '<b>"né" & co')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "words", CLASSES)


def ask(folder: Path, tmp_path: Path, **changes: object) -> Request:
    fixed = {
        "recipe": "folder",
        "data": folder,
        "out": tmp_path / "out",
        "cache": tmp_path / "cache",
    }
    return Request(**(fixed | {"engine": "serial", "offline": True} | changes))  # type: ignore[arg-type]


def shares(request: Request) -> dict[str, str]:
    """Key → split."""
    data = open_dataset(prepare_dataset(request).folder)
    return {key: split for split in data for key in data[split].column("key")}


@pytest.mark.parametrize("features", ["mfcc", "log_mel:n_mels=40", "waveform"])
@pytest.mark.parametrize(
    "engine", ["serial", "local", pytest.param("dask", marks=pytest.mark.slow)]
)
def test_a_folder_of_mixed_recordings_is_prepared(
    folder: Path, tmp_path: Path, features: str, engine: str
) -> None:
    for name, data in BROKEN.items():
        (folder / "ja" / name).write_bytes(data)
    request = ask(folder, tmp_path, features=features, engine=engine, workers=2, params="seed=3")
    with pytest.raises(BuildError, match="3 bad clips, 0 allowed") as caught:
        prepare_dataset(request)
    assert "ja/text.wav: not readable as audio" in str(caught.value)
    assert "(source data/ja/text.wav, bytes 0 to 24)" in str(caught.value)
    assert "ja/empty.wav: not readable as audio (an empty file)" in str(caught.value)
    request = ask(folder, tmp_path, features=features, max_bad=3, params="seed=3")
    done = prepare_dataset(request)
    assert sum(done.rows.values()) == 20
    assert done.bad == 3
    assert verify(Path(done.folder), lambda size: None) == []
    sealed = open_sealed(Path(done.folder))
    assert sealed.classes == {"label": tuple(sorted(CLASSES))}
    assert sealed.info["audio"]["sample_rate"] == 16000


def test_samples_and_labels_are_those_of_the_files(folder: Path, tmp_path: Path) -> None:
    data = open_dataset(prepare_dataset(ask(folder, tmp_path, features="waveform")).folder)
    found = {}
    for split in data.values():
        for row, key in enumerate(split.column("key")):
            label = split.classes["label"][split[row]["label"]]
            assert label == key.split("/")[0]
            found[key] = np.asarray(split[row]["features"])
    assert len(found) == 20
    for key, samples in found.items():
        piece = Piece(memoryview((folder / key).read_bytes()))
        np.testing.assert_array_equal(samples, load_audio([piece], Audio(16000)))


def test_a_folder_is_known_by_content_not_by_name_or_time(folder: Path, tmp_path: Path) -> None:
    first = prepare_dataset(ask(folder, tmp_path))
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    (moved / "ja" / ".DS_Store").write_bytes(b"hidden")
    (moved / "notes.txt").write_text("not a recording")
    again = prepare_dataset(ask(moved, tmp_path))
    assert again.up_to_date
    assert again.folder == first.folder
    name, data = next(recordings(1))
    (moved / "ja" / name).write_bytes(data + b"\0")
    assert prepare_dataset(ask(moved, tmp_path)).folder != first.folder


def test_what_was_hashed_is_trusted_by_path_size_and_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare_dataset(ask(folder, tmp_path))
    read: list[str] = []
    monkeypatch.setattr(
        "pipeline.fetch.local.sha256_of", lambda path: read.append(path.name) or "0"
    )
    assert prepare_dataset(ask(folder, tmp_path)).folder == first.folder
    assert read == []
    os.utime(folder / "ja" / "clip00.wav", ns=(1, 1))
    assert prepare_dataset(ask(folder, tmp_path)).folder != first.folder
    assert read == ["clip00.wav"]


def test_a_tar_of_the_folder_gives_the_same_examples(folder: Path, tmp_path: Path) -> None:
    packed = tmp_path / "words.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(folder, "my words")
    assert shares(ask(packed, tmp_path)) == shares(ask(folder, tmp_path))


def test_a_tar_without_recordings_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.txt").touch()
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "text.txt", "a/b/text.txt")
        tar.add(tmp_path / "text.txt", "a/../../b.wav")
    with pytest.raises(RecipeError, match="no recordings in it: expected a folder, or a tar"):
        prepare_dataset(ask(tmp_path / "x.tar", tmp_path))


def test_split_folders_are_taken_and_can_be_left(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for split, count in (("train", 6), ("dev", 2), ("Test", 4)):
        write_folder(root / split, ("a", "b"), count)
    found = shares(ask(root, tmp_path))
    assert found["dev/a/clip00.wav"] == "validation"
    assert sorted(found.values()) == ["test"] * 4 + ["train"] * 6 + ["validation"] * 2
    hashed = ask(root, tmp_path, params="splits=hash,shares=1+1+1")
    assert open_sealed(Path(prepare_dataset(hashed).folder)).classes["label"] == (
        "Test",
        "dev",
        "train",
    )
    flat = write_folder(tmp_path / "flat", ("train", "bus"))
    assert set(shares(ask(flat, tmp_path, params="seed=1")).values()) == {
        "train",
        "validation",
        "test",
    }
    with pytest.raises(RecipeError, match="splits=folders: expected folders train, validation"):
        prepare_dataset(ask(flat, tmp_path, params="splits=folders"))


def test_speakers_are_never_in_two_splits(tmp_path: Path) -> None:
    root = tmp_path / "data"
    ((_, data),) = recordings(1)
    for word in ("ja", "nein"):
        for speaker in range(12):
            for take in range(2):
                path = root / word / f"s{speaker}_{take}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
    found = shares(ask(root, tmp_path, params="speaker_before=_,shares=2+1+1"))
    splits: dict[str, set[str]] = {}
    for key, split in found.items():
        splits.setdefault(key.split("/")[1].split("_")[0], set()).add(split)
    assert all(len(of_one) == 1 for of_one in splits.values())
    assert {split for of_one in splits.values() for split in of_one} == {
        "train",
        "validation",
        "test",
    }
    with pytest.raises(RecipeError, match="expected a speaker, then '-', behind its class folder"):
        prepare_dataset(ask(root, tmp_path, params="speaker_before=-"))


def link_out(root: Path) -> None:
    (root / "ja" / "out.wav").symlink_to(root.parent / "secret")
    (root / "ja" / "nowhere.wav").symlink_to(root / "ja" / "none.wav")
    (root / "loop").symlink_to(root)


WRONG = {
    "links": (
        link_out,
        [
            "3 mistakes",
            "ja/out.wav: a link that leads out of the folder",
            "nowhere.wav: a link that leads nowhere",
            "loop: a link, and not to a file",
        ],
    ),
    "pipe": (lambda root: os.mkfifo(root / "ja" / "pipe.wav"), ["pipe.wav: neither a file nor a"]),
    "name": (
        lambda root: Path(os.fsdecode(os.fsencode(root) + b"/ja/\xff.wav")).touch(),
        ["not UTF-8; rename"],
    ),
    "empty class": (lambda root: (root / "leer").mkdir(), ["leer/: a class without recordings"]),
    "text class": (
        lambda root: ((root / "t").mkdir(), (root / "t" / "a.txt").touch()),
        ["t/: a class without recordings"],
    ),
    "no class": (lambda root: (root / "x.wav").touch(), ["x.wav: a recording in no class folder"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_folder_is_told_at_once(
    folder: Path, tmp_path: Path, case: str
) -> None:
    (tmp_path / "secret").write_bytes(b"mine")
    spoil, expected = WRONG[case]
    spoil(folder)
    with pytest.raises(ShardwellError) as caught:
        prepare_dataset(ask(folder, tmp_path))
    assert all(part in str(caught.value) for part in expected), caught.value
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named(folder: Path, tmp_path: Path) -> None:
    (folder / "ja" / "clip00.wav").chmod(0)
    with pytest.raises(SourceError, match=r"ja/clip00.wav: can't be read: Permission"):
        prepare_dataset(ask(folder, tmp_path))


def test_a_link_within_the_folder_is_a_file(folder: Path) -> None:
    (folder / "ja" / "twice.wav").symlink_to(folder / "ja" / "clip00.wav")
    assert "ja/twice.wav" in walk(folder.resolve())


def test_a_file_that_changes_meanwhile_ends_the_build(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = folder / "ja" / "clip00.wav"
    before = clip.read_bytes()

    def changed(job: Job, task: Task) -> object:
        clip.write_bytes(before + b"\0\0")
        return build(job, task)

    monkeypatch.setattr("pipeline.prepare.run.build", changed)
    with pytest.raises(SourceError, match=r"clip00.wav: was changed while it was read"):
        prepare_dataset(ask(folder, tmp_path))
    assert not list((tmp_path / "out").rglob("*-of-*.json"))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"data": None}, UsageError, "folder prepares your own data: name it, as in"),
        ({"data": "nowhere"}, SourceError, "nowhere: expected your data here, got no such file"),
        ({"params": "shares=1+1"}, RecipeError, "expected three whole numbers"),
        ({"params": "shares=0+0+0"}, RecipeError, "expected three whole numbers"),
        ({"params": "splits=x"}, UsageError, "splits=x: expected one of auto, folders, hash"),
        (
            {"params": "shares=1+1000+1"},
            RecipeError,
            "train and test: no example; 20 groups",
        ),
        ({"recipe": "mnist"}, UsageError, "mnist takes no data of your own"),
    ],
)
def test_what_is_asked_for_makes_no_sense(
    folder: Path, tmp_path: Path, changes: dict[str, object], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        prepare_dataset(ask(folder, tmp_path, **changes))


def test_an_empty_folder_and_one_without_recordings(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="expected files to read in this folder, got none"):
        prepare_dataset(ask(tmp_path / "empty", tmp_path))
    (tmp_path / "empty" / "a.txt").touch()
    with pytest.raises(RecipeError, match="holds no recordings in folders"):
        prepare_dataset(ask(tmp_path / "empty", tmp_path))
    (tmp_path / "calls.tsv").write_text("path\tlabel\n")
    with pytest.raises(RecipeError, match="a table is prepared by shardwell prepare table"):
        prepare_dataset(ask(tmp_path / "calls.tsv", tmp_path))


def test_an_estimate_of_a_folder_is_exact(folder: Path, tmp_path: Path) -> None:
    found = estimate(ask(folder, tmp_path))
    assert found.exact
    assert sum(count or 0 for count in found.rows.values()) == 20


def test_a_seed_that_leaves_no_split_empty_is_named() -> None:
    groups = ["anna", "ben", "cy", "dora", "eve", "fay"]
    with pytest.raises(RecipeError, match=r"test: no example; 6 groups .* try seed=") as caught:
        share_out(groups, [2, 1, 1], seed=2)
    seed = int(str(caught.value).partition("try seed=")[2].partition(",")[0])
    assert set(share_out(groups, [2, 1, 1], seed).values()) == set(PROMISED)
    with pytest.raises(RecipeError, match="try another seed, other shares"):
        share_out(groups[:2], [2, 1, 1], seed=2)


def test_shares_are_about_what_is_stated_and_nobody_moves() -> None:
    groups = [f"speaker {i}" for i in range(3000)]
    found = share_out(groups, [8, 1, 1], seed=5)
    counts = {split: list(found.values()).count(split) for split in PROMISED}
    assert np.allclose(list(counts.values()), [2400, 300, 300], atol=60)
    more = share_out([*groups, *(f"new {i}" for i in range(1000))], [8, 1, 1], seed=5)
    assert {group: more[group] for group in groups} == found
    assert share_out(groups, [8, 1, 1], seed=6) != found
    assert set(share_out(groups, [1, 0, 0], seed=5).values()) == {"train"}


@pytest.mark.parametrize(
    ("name", "split"),
    [("Dev", "validation"), ("training", "train"), ("test", "test"), ("noise", None), ("", None)],
)
def test_what_people_call_splits(name: str, split: str | None) -> None:
    assert split_named(name) == split


def test_names_are_no_html_on_a_card(folder: Path, tmp_path: Path) -> None:
    (folder / CLASSES[2] / "<i>.wav").touch()
    done = prepare_dataset(ask(folder, tmp_path, max_bad=1, params="seed=3"))
    page = card("me/own", configs_of([Path(done.folder)]), "parquet")
    assert '| &lt;b&gt;"né" &amp; co |' in page
    assert "&lt;i&gt;.wav" in page
    assert "<i>" not in page


def test_the_command_takes_the_folder_as_it_lies(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = ["--out", f"{tmp_path / 'out'}", "--cache", f"{tmp_path / 'cache'}"]
    common = [*places, "--engine", "serial", "--quiet", "--features", "log_mel"]
    assert main(["prepare", "folder", str(folder), *common]) == 0
    told = capsys.readouterr()
    assert "prepared: train" in told.out
    assert "classes are the folders in ./" in told.err
    assert "splits are made by a hash: shares 8+1+1, seed 0" in told.err
    assert main(["prepare", "folder", "--source", f"data={folder}", *common]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == told.out.splitlines()[-1]
    assert main(["prepare", "folder", *common]) == 2
    assert "shardwell prepare folder PATH" in capsys.readouterr().err


def test_an_archive_that_changes_meanwhile_ends_the_build(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain tar is read in place."""
    path = tmp_path / "words.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(folder, "words")

    def change_and_build(job: Job, task: Task) -> object:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        return build(job, task)

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.prepare.run.build", change_and_build)
        with pytest.raises(SourceError, match=r"words\.tar: was changed"):
            prepare_dataset(ask(path, tmp_path))
    assert not list((tmp_path / "out").rglob("*.json"))
    assert not prepare_dataset(ask(path, tmp_path)).up_to_date


@pytest.mark.parametrize("stored", ["folder", "url"])
def test_a_licence_may_be_stated_after_the_build(folder: Path, tmp_path: Path, stored: str) -> None:
    root = tmp_path / "out"
    out = root if stored == "folder" else f"file://{root}"
    first = prepare_dataset(ask(folder, tmp_path, out=out))
    (made,) = root.glob("folder/own-*")
    shards = {path: path.stat().st_mtime_ns for path in made.glob("*.arrow")}
    page = card("me/own", configs_of([made]), "parquet")
    assert "example.org" not in page
    assert "<>" not in page
    assert "license_link" not in page
    told = (MANIFESTS / "folder.toml").read_text()
    told = told.replace('"unknown"', '"allowed"\nhomepage = "https://me.example/words"')
    (tmp_path / "mine.toml").write_text(told)
    mine = ask(folder, tmp_path, out=out, manifest=tmp_path / "mine.toml")
    for _ in range(2):
        again = prepare_dataset(mine)
        assert (again.folder, again.up_to_date) == (first.folder, True)
        corpus = open_sealed(made).info["corpus"]
        assert corpus["redistribution"] == "allowed"
        assert "(<https://me.example/words>)" in card("me/own", configs_of([made]), "parquet")
    assert shards == {path: path.stat().st_mtime_ns for path in made.glob("*.arrow")}
    assert verify(made, lambda size: None) == []


def test_a_strangers_recipe_may_take_own_data_too(folder: Path, tmp_path: Path) -> None:
    """Without ``files`` all that is visible in the folder is read, a list beside the clips say."""
    (folder / "list.txt").write_text("\n".join(sorted(p.name for p in folder.glob("ja/*"))))
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
    done = prepare_dataset(ask(folder, tmp_path, recipe=f"{tmp_path / 'mine.py'}"))
    assert done.rows == {"train": 7}
