"""The command line: what it prints, where, and how it exits."""

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pipeline.cli import main, parser
from pipeline.cli.train import FLAGS
from pipeline.prepare import Request, prepare_dataset
from pipeline.recipe_files import known_recipes
from pipeline.train import Settings
from tests.clips import write_folder

Ask = Callable[..., Request]
ROOT = Path(__file__).parent.parent
NEED_IMAGES_OR_A_MODEL = ("train", "evaluate", "predict", "export-onnx", "pull")


def helps() -> dict[str, str]:
    commands = next(a for a in parser()._actions if a.dest == "command")
    return {"": parser().format_help()} | {
        name: command.format_help()
        for name, command in commands.choices.items()  # type: ignore[union-attr]
    }


@pytest.mark.parametrize("name", helps())
def test_every_help_ends_with_an_example(name: str) -> None:
    last = helps()[name].rstrip().splitlines()[-2:]
    assert "example:" in helps()[name]
    assert last[-1].startswith("  shardwell ")
    assert not name or last[-1].startswith(f"  shardwell {name}")


def test_the_examples_of_the_help_run_as_they_stand(
    tmp_path: Path, digits_dataset: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """With an existing dataset in place of what the shell would find for ``*``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, text in helps().items():
        if name in ("", *NEED_IMAGES_OR_A_MODEL):
            continue  # the first is two others
        line = text.rstrip().splitlines()[-1].strip()
        arguments = [str(digits_dataset) if "*" in a else a for a in shlex.split(line)[1:]]
        assert main(arguments) == 0, line


def test_list_and_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert "speech_commands     Google Speech Commands" in listed
    assert main(["list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == sorted(row["name"] for row in rows)
    assert main(["info", "speech_commands"]) == 0
    told = capsys.readouterr().out
    for part in ("CC BY 4.0", "arXiv:1804.03209", "2.43 GB", "af14739ee7dc", "train 84,843"):
        assert part in told
    assert main(["info", "mnist", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["protocols"]["standard"]["splits"]["train"] == 60000


def test_prepare_prints_the_path_last(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, cache: Path
) -> None:
    ask = ["prepare", "digit_sum", "--out", str(tmp_path), "--cache", str(cache), "--quiet"]
    ask += ["--engine", "serial"]
    assert main(ask) == 0
    first = capsys.readouterr()
    folder = Path(first.out.splitlines()[-1])
    assert (folder / "dataset.json").is_file()
    assert first.out.startswith("prepared: train 300 · validation 100 · test 100\n")
    assert first.err == ""
    assert main(ask) == 0
    assert (
        capsys.readouterr().out == f"up to date: train 300 · validation 100 · test 100\n{folder}\n"
    )
    assert main([*ask, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "path": str(folder),
        "rows": {"train": 300, "validation": 100, "test": 100},
        "bad": 0,
        "odd": 0,
        "up_to_date": True,
    }
    assert main([*ask, "--dry-run"]) == 0
    assert capsys.readouterr().out.endswith(
        f"up to date: train 300 · validation 100 · test 100\n{folder}\n"
    )
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out.startswith("all is well: train 300")


def test_a_dry_run_builds_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, cache: Path
) -> None:
    ask = ["prepare", "mnist", "--dry-run", "--out", str(tmp_path), "--cache", str(cache)]
    assert main(ask) == 0
    told = capsys.readouterr().out
    assert "clips     train 60,000 · test 10,000" in told
    assert "download  11.6 MB" in told
    assert "inflated  about 55 MB" in told
    assert "hours" not in told
    assert not any(tmp_path.iterdir())
    assert main([*ask, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["features"] == 70000 * 784
    assert main([*ask, "--params", "validation=7"]) == 0  # no split's count is known before
    told = capsys.readouterr().out
    assert "shards    not known yet\n" in told
    assert told.endswith("disk      not known yet\n")


def test_verify_exits_with_1_and_names_what_is_wrong(
    capsys: pytest.CaptureFixture[str], ask_digits: Ask
) -> None:
    folder = prepare_dataset(ask_digits()).folder
    shard = folder / "test-00000-of-00001.arrow"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    assert main(["verify", str(folder)]) == 1
    captured = capsys.readouterr()
    assert "expected sha256" in captured.err
    assert captured.out == ""
    assert main(["verify", str(folder), "--json"]) == 1
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 1


def test_train_prints_a_line_per_epoch(
    capsys: pytest.CaptureFixture[str],
    ask_commands: Ask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = prepare_dataset(ask_commands()).folder
    out = folder.parent / "run"
    assert (
        main(["train", str(folder), "--model", "conv2d", "--epochs", "2", "--out", str(out)]) == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    line = r"epoch +\d · loss \d+\.\d{4} · train \d\.\d{3} · held out \d\.\d{3}"
    assert all(re.fullmatch(line, text) for text in lines[:2])
    assert lines[2].startswith("test accuracy ")
    assert lines[3] == str(out)
    assert main(["train", str(folder), "--model", "conv2d", "--epochs", "2", "--json"]) == 0
    *reports, end = map(json.loads, capsys.readouterr().out.splitlines())
    assert [report["epoch"] for report in reports] == [1, 2]
    assert end["path"].startswith("runs/speech_commands-mini-conv2d-")
    assert end["test"]["accuracy"] <= 1
    assert end["steps"] == 2


def test_every_setting_has_its_flag() -> None:
    assert [name for name, _, _ in FLAGS] == [field.name for field in fields(Settings)]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["prepare", "mnits"], 2, "unknown recipe 'mnits': expected one of mnist,"),
        (["prepare", "mnist", "--source", "x"], 2, "--source x: expected NAME=FILE"),
        (["prepare", "mnist", "--manifest", "none.toml"], 1, "none.toml: expected a manifest here"),
        (["prepare", "mnist", "--offline", "--cache", "none"], 1, "--offline forbids"),
        (["verify", "none"], 1, "none: expected a sealed dataset with a dataset.json, got no"),
        (["train", "none"], 1, "none: expected a sealed dataset"),
        (["predict", "none", "x.wav"], 1, "none: expected a saved model, got no such file"),
        (["export-onnx", "none"], 1, "none: expected a saved model, got no such file"),
        (["features", "--rate", "0"], 2, "sample_rate=0: expected 1,000 to 1,000,000 Hz"),
        (["info", "x"], 2, "unknown recipe 'x'"),
        (["prepare", "my words"], 2, "shardwell prepare folder 'my words'"),
        (["prepare", "calls.TSV"], 2, "shardwell prepare table calls.TSV"),
        (
            ["prepare", "mnist", "--sorce", "a=b"],
            2,
            "unknown option '--sorce': expected one of --so",
        ),
        (
            ["cache", "clean", "--cache", "x", "--al"],
            2,
            "unknown option '--al': expected one of --all",
        ),
        (
            ["cache", "clean", "--cache", "x", "--ail=3"],
            2,
            "unknown option '--ail': expected one of",
        ),
        (["prepare", "folder", "x", "seed=1"], 2, "'seed=1': expected no further argument"),
        (["prepare", "folder", "x", "--params", "shares=2,1,1"], 2, "a list is joined by +"),
    ],
)
def test_errors_go_to_stderr_without_a_traceback(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my words").mkdir()
    (tmp_path / "calls.TSV").touch()
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("shardwell: ")
    assert message in captured.err
    assert ("\nsee: shardwell " in captured.err) == (code == 2)


def test_signs_that_a_terminal_acts_on_are_escaped_in_what_is_logged(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = write_folder(tmp_path / "words", ("yes", "no"))
    (words / "a.\x1b[2J").touch()
    arguments = ["--params", "seed=1", "--out", str(tmp_path / "data")]
    assert main(["prepare", "folder", str(words), *arguments]) == 0
    said = capsys.readouterr().err
    assert "no recordings: .\\x1b[2J 1" in said
    assert "\x1b[2J" not in said


@pytest.mark.parametrize("way", [[], ["--stream"]])
def test_signs_that_a_terminal_acts_on_are_escaped_where_files_are_told(
    capsys: pytest.CaptureFixture[str], ask_commands: Ask, tmp_path: Path, way: list[str]
) -> None:
    folder = prepare_dataset(ask_commands(features="waveform")).folder
    given = "--model crnn --options hidden=8,bidirectional=false --epochs 1 --device cpu --out"
    run, clip = tmp_path / "run", tmp_path / "t\x1b[2Jx.wav"
    assert main(["train", str(folder), *given.split(), str(run)]) == 0
    soundfile.write(clip, np.zeros(16000), 16000)
    capsys.readouterr()
    assert main(["predict", str(run), str(clip), f"{clip}.none", *way]) == 1
    captured = capsys.readouterr()
    assert "t\\x1b[2Jx.wav.none: No such file or directory" in captured.err
    assert "t\\x1b[2Jx.wav  " in captured.out
    assert "\x1b" not in captured.out + captured.err


def test_signs_that_a_terminal_acts_on_are_escaped_in_what_verify_finds(
    capsys: pytest.CaptureFixture[str], ask_digits: Ask, tmp_path: Path
) -> None:
    folder = prepare_dataset(ask_digits(out=tmp_path / "d\x1b[2Jx")).folder
    shard = folder / "test-00000-of-00001.arrow"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    assert main(["verify", str(folder)]) == 1
    said = capsys.readouterr().err
    assert "d\\x1b[2Jx" in said
    assert "\x1b" not in said


@pytest.mark.parametrize("arguments", [["fly"], ["prepare"], ["prepare", "x", "--workers", "q"]])
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "build a dataset: download" in captured.err


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "pipeline", "list", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert len(json.loads(done.stdout)) == len(known_recipes())


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m pipeline info speech_commands | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr


def test_features_lists_every_kind_in_every_front_end(capsys: pytest.CaptureFixture[str]) -> None:
    from pipeline.features import KINDS
    from pipeline.features.front_ends import FRONT_ENDS

    assert main(["features", "--rate", "8000"]) == 0
    told = capsys.readouterr().out
    for kind in ("mfcc", "log_mel", "spectrogram"):
        assert all(f"\n{kind}@{front}\n" in f"\n{told}" for front in FRONT_ENDS)
    assert max(map(len, told.splitlines())) <= 100
    assert main(["features", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["kind"] for row in rows.values()} == set(KINDS)
    assert rows["log_mel@hifigan"]["sample_rate"] == 22050
    assert rows["mfcc@kaldi"]["lifter"] == 22.0


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert re.fullmatch(r"shardwell \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_verify_takes_several(digits_dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(digits_dataset), str(digits_dataset)]) == 0
    assert capsys.readouterr().out.count("all is well") == 2


def test_whoever_ends_a_run_is_told(tmp_path: Path) -> None:
    """A scheduler sends SIGTERM: the run ends as by Ctrl-C, its workers too."""
    command = [sys.executable, "-m", "pipeline", "prepare", "synthetic_commands", "--quiet"]
    command += ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    while not (tmp_path / "cache").exists():  # then it is under way
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        said == "shardwell: interrupted; what is finished is kept, run the same command to go on\n"
    )


def test_a_script_without_a_guard_is_told(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pipeline import Request, prepare_dataset\n"
        f"prepare_dataset(Request('digit_sum', out={str(tmp_path)!r}, workers=1))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "put it there, or take --engine serial" in done.stderr.splitlines()[-1]
