"""What is wrong with a person's own data: told at once, and nothing is made of it."""

import os
import tarfile
from pathlib import Path

import pytest

from pipeline.build import Job, build
from pipeline.errors import RecipeError, ShardwellError, SourceError, UsageError
from pipeline.prepare import prepare_dataset
from pipeline.records import Task
from tests.clips import ask


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
    own_folder: Path, tmp_path: Path, case: str
) -> None:
    (tmp_path / "secret").write_bytes(b"mine")
    spoil, expected = WRONG[case]
    spoil(own_folder)
    with pytest.raises(ShardwellError) as caught:
        prepare_dataset(ask(own_folder, tmp_path))
    assert all(part in str(caught.value) for part in expected), caught.value
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_named(own_folder: Path, tmp_path: Path) -> None:
    (own_folder / "ja" / "clip00.wav").chmod(0)
    with pytest.raises(SourceError, match=r"ja/clip00.wav: can't be read: Permission"):
        prepare_dataset(ask(own_folder, tmp_path))


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


def test_a_tar_without_recordings_is_told(tmp_path: Path) -> None:
    (tmp_path / "text.txt").touch()
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "text.txt", "a/b/text.txt")
        tar.add(tmp_path / "text.txt", "a/../../b.wav")
    with pytest.raises(RecipeError, match="no recordings in it: expected a folder, or a tar"):
        prepare_dataset(ask(tmp_path / "x.tar", tmp_path))


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
    own_folder: Path, tmp_path: Path, changes: dict[str, object], error: type, message: str
) -> None:
    with pytest.raises(error, match=message):
        prepare_dataset(ask(own_folder, tmp_path, **changes))


def test_a_file_that_changes_meanwhile_ends_the_build(
    own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = own_folder / "ja" / "clip00.wav"
    before = clip.read_bytes()

    def changed(job: Job, task: Task) -> object:
        clip.write_bytes(before + b"\0\0")
        return build(job, task)

    monkeypatch.setattr("pipeline.prepare.run.build", changed)
    with pytest.raises(SourceError, match=r"clip00.wav: was changed while it was read"):
        prepare_dataset(ask(own_folder, tmp_path))
    assert not list((tmp_path / "out").rglob("*-of-*.json"))


def test_an_archive_that_changes_meanwhile_ends_the_build(
    own_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain tar is read in place."""
    path = tmp_path / "words.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(own_folder, "words")

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
