"""The command line as people type it: order, empty words, odd names, closed ends."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.contents import clean, contents
from pipeline.prepare import Request, prepare_dataset

Ask = Callable[..., Request]
RUN = [sys.executable, "-m", "pipeline"]


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """Three folders, in each a file that is no recording."""
    for word in ("no", "stop", "yes"):
        (tmp_path / "words" / word).mkdir(parents=True)
        (tmp_path / "words" / word / "a\n.wav").write_bytes(b"no sound")
    return tmp_path / "words"


@pytest.mark.parametrize("before", [True, False])
def test_options_may_stand_before_or_behind_the_data(
    words: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], before: bool
) -> None:
    options = ["--features", "log_mel", "--params", "seed=68", "--quiet", "--engine", "serial"]
    options += ["--cache", str(tmp_path / "cache")]
    data = [str(words)]
    ask = ["prepare", "folder", *(options + data if before else data + options)]
    assert main([*ask, "--out", str(tmp_path / "out")]) == 1
    _, _, said = capsys.readouterr().err.partition("shardwell: 3 bad clips, 0 allowed; ")
    assert said.startswith("leave them out with --max-bad 3:\n")
    assert len(said.splitlines()) == 4
    assert "\n  no/a\\n.wav: not readable as audio" in said  # the file's own line feed is a sign


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["folder", ""], "folder: expected your own data's path, got nothing"),
        (["digit_sum", "x", "y"], "'y': expected no further argument"),
        (["digit_sum", "--out", "s3://"], "s3://: expected a URL like s3://bucket/prefix"),
        (["digit_sum", "--out", "://x"], "://x: expected a URL like s3://bucket/prefix"),
        (["mnist", "--source", "v2"], "--source v2: expected NAME=FILE"),
        (["mnist", "--source", "x=m\udcff.gz"], "--source x: 'm\\udcff.gz': its name is not UTF-8"),
        (["digit_sum", "--source", "tutorial=/x"], "digit_sum makes it itself; leave --source out"),
    ],
)
def test_what_can_not_be_meant_is_told(
    given: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["prepare", *given, "--cache", str(tmp_path), "--quiet"]) == 2
    assert message in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--cache", "c\udcffche"], "'c\\udcffche': its name is not UTF-8; rename it"),
        (["--out", "d\udcffta"], "'d\\udcffta': its name is not UTF-8; rename it"),
        (["--cache", "~nosuchuser/x"], "~nosuchuser/x: no such person's home is known"),
    ],
)
def test_paths_that_can_not_be_written_down_are_told(
    option: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["prepare", "digit_sum", *option])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_a_terminal_that_knows_few_signs_is_enough(tmp_path: Path) -> None:
    ask = [*RUN, "prepare", "digit_sum", "--quiet", "--engine", "serial", "--cache", str(tmp_path)]
    done = subprocess.run(
        [*ask, "--out", str(tmp_path / "out")],
        capture_output=True,
        env={"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin"},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert Path(done.stdout.decode().splitlines()[-1]).is_dir()


def test_a_closed_output_is_no_failure() -> None:
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *RUN, "list"], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_copy_is_held_while_it_is_reported_on(
    ask_digits: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cache = prepare_dataset(ask_digits()).folder, tmp_path / "cache"
    monkeypatch.setattr("pipeline.files.CACHE", cache)
    monkeypatch.setattr("pipeline.remote.CACHE", cache, raising=False)
    removed = []

    def tick(*given: object) -> Path:
        removed.append(clean(contents(cache, {})))
        return tmp_path / "page.html"

    monkeypatch.setattr("pipeline.report.report", tick)
    assert main(["report", f"file://{folder}", "--out", str(tmp_path / "r")]) == 0
    assert removed == [[]]
    assert clean(contents(cache, {}))


def test_a_neighbour_that_is_nested_without_end_is_no_neighbour(ask_digits: Ask) -> None:
    done = prepare_dataset(ask_digits())
    other = Path(done.folder).with_name("len-10-tokens-deep")
    other.mkdir()
    (other / "dataset.json").write_text("[" * 200_000)
    again = prepare_dataset(ask_digits(protocol="len-10"))
    assert again.folder != done.folder
