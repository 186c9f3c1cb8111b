"""What the pages on people's own data show runs as it stands: each command, and the recipe."""

import hashlib
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.dataset import open_sealed
from pipeline.manifest import load_manifest
from tests.clips import recordings, write_folder
from tests.hub import Hub, Repo
from tests.hub_words import files, images, parquet, words
from tests.pages import ROOT, blocks, command_lines


def commands(page: str) -> list[list[str]]:
    shown = [block.code for block in blocks(ROOT / "docs" / page) if block.language == "sh"]
    return [words[1:] for code in shown for words in command_lines(code)]


@pytest.fixture
def home(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A person's folder, tar and table, and their datasets on a Hub."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    made = write_folder(tmp_path / "made", ("ja", "nein"))
    for number, path in enumerate(sorted(made.rglob("*.*"))):
        target = tmp_path / "my_words" / path.parent.name / f"{'abcdefgh'[number % 8]}_{path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    with tarfile.open(tmp_path / "my_words.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "my_words", "my_words")
    (tmp_path / "clips").mkdir()
    clips = list(recordings(16))
    for name, data in clips:
        (tmp_path / "clips" / name).write_bytes(data)
    (shown,) = re.findall(
        r"```\n(path\t.*?)```", (ROOT / "docs/own_data.md").read_text(), re.DOTALL
    )
    header, first, second = shown.splitlines()
    rows = [f"clips/{name}\tbook\tc{i}\t\t" for i, (name, _) in enumerate(clips[2:])]
    (tmp_path / "calls.tsv").write_text("\n".join([header, first, f"{second}\t\t", *rows]) + "\n")
    for name in ("you/words", "you/digits"):
        hub.repos[name] = Repo("dataset", False)
        hub.repos[name].commit({}, "main")
    held = [data for _, data in clips]
    hub.put("you/words", "train.parquet", words(held[:8]))
    hub.put("you/digits", "test.parquet", parquet({"image": files(images(5))}))
    return tmp_path


def test_every_command_on_own_data_runs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = commands("own_data.md")
    assert len(lines) == 8
    for arguments in lines:
        expanded = [part.replace("~", str(home), part.startswith("~")) for part in arguments]
        assert main([*expanded, "--engine", "serial", "--cache", str(home / "cache")]) == 0, (
            arguments
        )
        folder = capsys.readouterr().out.splitlines()[-1]
        assert open_sealed(Path(folder)).splits


def test_a_strangers_recipe_is_prepared_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    page = ROOT / "docs" / "recipes.md"
    (code,) = (block.code for block in blocks(page) if block.language == "python")
    (manifest,) = re.findall(r"```toml\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(code.splitlines()) <= 60
    notes = ["file\tbird\tmetres\theard"]
    with tarfile.open("birds.tar.gz", "w:gz") as tar:
        for number, (name, data) in enumerate(recordings(20)):
            file = f"site{number % 8}/{name}"
            (tmp_path / name).write_bytes(data)
            tar.add(name, f"audio/{file}")
            notes.append(f'{file}\t{("owl", "<wren>")[number % 2]}\t{number}.5\tsings "tu-whit"')
        Path("notes.tsv").write_text("\n".join(notes))
        tar.add("notes.tsv")
    packed = Path("birds.tar.gz").read_bytes()
    manifest = re.sub(r"(?m)^bytes = \d+", f"bytes = {len(packed)}", manifest)
    manifest = re.sub("0{64}", hashlib.sha256(packed).hexdigest(), manifest)
    Path("birds.py").write_text(code)
    Path("birds.toml").write_text(manifest)
    assert load_manifest(Path("birds.toml")).name == "birds"
    local = ["--source", "archive=birds.tar.gz", "--engine", "local", "--workers", "2"]
    for arguments in commands("recipes.md"):
        more = [*local, "--cache", "cache"] if "prepare" in arguments else []
        assert main([*arguments, *more]) == 0
    sealed = open_sealed(Path(capsys.readouterr().out.splitlines()[-1]))
    assert sealed.classes == {"bird": ("<wren>", "owl")}
    assert sum(sealed.rows(split) for split in sealed.splits) == 20
