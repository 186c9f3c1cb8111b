"""The doctor: a line per check, a remedy where one is needed, no check hides another."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.doctor import FAIL, OK, WARN, examine, libraries, machine

ROOT = Path(__file__).parent.parent
TOKEN = "hf_never_shown_to_anyone"


def test_all_is_well_here(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    arguments = ["doctor", "--out", str(tmp_path), "--cache", str(tmp_path / "cache")]
    assert main(arguments) == 0
    told = capsys.readouterr().out
    assert TOKEN not in told
    assert "Hub token        there is one" in told
    lines = [line for line in told.splitlines() if "→" not in line]
    assert main([*arguments, "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert [f"{f['state']:<4}  {f['check']:<15}  {f['found']}" for f in findings] == lines
    assert all(finding["remedy"] for finding in findings if finding["state"] != OK)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("broken", ["torch", "torchaudio", "soundfile", "numpy", "soxr", "isal"])
def test_a_broken_library_hides_no_other_check(tmp_path: Path, broken: str) -> None:
    """In a process of its own, where importing that library fails as a bad wheel does."""
    (tmp_path / f"{broken}.py").write_text("raise OSError('libcudart.so.13: no such file')\n")
    command = [sys.executable, "-m", "pipeline", "doctor", "--json", "--out", str(tmp_path)]
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "HOME": str(tmp_path), "PATH": "/usr/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1, done.stderr
    findings = {finding["check"]: finding for finding in json.loads(done.stdout)}
    failed = {name for name, finding in findings.items() if finding["state"] == FAIL}
    own = {"numpy": "NumPy and Arrow", "soundfile": "audio files", "soxr": "resampling"}
    own |= {"isal": "gzip"}
    assert own.get(broken, broken) in failed
    assert "libcudart" in findings[own.get(broken, broken)]["found"]
    assert failed.isdisjoint({"Python", "cores", "output", "cache", "open files", "extras"})
    assert all(findings[name]["remedy"] for name in failed)


def test_without_a_compiler_it_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "PACKAGE", tmp_path)
    for check in (libraries.kernel, libraries.gathering):
        assert check().state == WARN
        assert "apt install gcc" in check().remedy


def test_a_disk_without_room_or_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    assert machine.output(file / "data").state == FAIL
    assert "can't be written" in machine.output(file / "data").found
    assert machine.cache(file / "cache").state == WARN
    (tmp_path / "Documents").mkdir()
    assert machine.cache(tmp_path).state == WARN
    assert "a folder of its own" in machine.cache(tmp_path).remedy
    monkeypatch.setattr(machine, "ROOM", 1 << 62)
    assert machine.output(tmp_path).state == WARN
    assert "make room" in machine.output(tmp_path).remedy
    monkeypatch.setattr(machine, "LEAST_ROOM", 1 << 62)
    assert machine.output(tmp_path).state == FAIL
    assert machine.output("s3://bucket/prefix").state == OK


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """A folder that this process may not enter: root is nobody for as long."""
    folder = tmp_path / "locked"
    folder.mkdir(0o000)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        os.seteuid(user)
        folder.chmod(0o700)


@pytest.mark.parametrize("below", ["data", "deep/data"])
def test_a_folder_below_one_that_may_not_be_entered(locked: Path, below: str) -> None:
    checks = {FAIL: machine.output, WARN: machine.cache}
    for (state, check), option in zip(checks.items(), ("--out", "--cache"), strict=True):
        finding = check(locked / below)
        assert finding.state == state
        assert finding.found == f"{locked / below}: can't be written: Permission denied"
        assert finding.remedy == f"choose another folder with {option}"


def test_small_limits_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        assert machine.open_files().state == WARN
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    monkeypatch.setattr(machine, "SMALL_SHM", 1 << 62)
    monkeypatch.setattr(machine, "SHM", tmp_path)
    assert "--shm-size" in machine.shared_memory().remedy


def test_every_check_is_made_once(tmp_path: Path) -> None:
    names = [finding.check for finding in examine(tmp_path, tmp_path / "cache")]
    assert len(names) == len(set(names)) == 17
