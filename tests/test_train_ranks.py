"""``torchrun … train``: as one process, killed and gone on with, by more or fewer processes."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import ModelError
from pipeline.features import Mfcc
from pipeline.loader import open_dataset
from pipeline.train import Settings, parse_options, settings_for, train
from pipeline.train.checkpoint import BEST, LAST, load
from pipeline.train.folder import events
from pipeline.train.predict import evaluated
from tests.sealed import Made, write_made

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
Given = dict[str, object]
# 6 steps an epoch; epochs enough that no run is over before a busy machine has killed it.
USUAL: Given = {"target": "word", "epochs": 5, "batch_size": 6, "device": "cpu"}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """36 examples to learn from, of 20 to 26 frames, 7 in validation and in test."""
    draw = np.random.default_rng(0)
    splits = {
        name: [
            (f"{name}{n:02d}", {"word": n % 3}, draw.standard_normal((20 + n % 7, 40), np.float32))
            for n in range(count)
        ]
        for name, count in (("train", 36), ("validation", 7), ("test", 7))
    }
    made = Made(
        Mfcc.at(16000, n_mfcc=40), {"word": "class"}, splits, {"word": ["down", "go", "yes"]}
    )
    return write_made(tmp_path / "words", made)


def settings(given: Given) -> Settings:
    options = parse_options(str(given["model"]), str(given.get("options", "")))
    return settings_for(USUAL | given | {"options": options}, {})


def begun(world: int, folder: Path, out: Path, given: Given) -> subprocess.Popen[str]:
    """``torchrun`` of so many processes, under way."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(world), "-m", "pipeline", "train", str(folder)]
    command += ["--out", str(out)]
    for name, value in (USUAL | given).items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **pipes)


def torchrun(world: int, folder: Path, out: Path, given: Given) -> str:
    """The same, to the end: what it prints."""
    process = begun(world, folder, out, given)
    printed, told = process.communicate(timeout=300)
    assert process.returncode == 0, told[-3000:]
    return printed


def failed(world: int, folder: Path, out: Path, given: Given) -> str:
    """The same, to an error: what all processes say."""
    process = begun(world, folder, out, given)
    _, told = process.communicate(timeout=300)
    assert process.returncode
    return told


def killed(world: int, folder: Path, out: Path, given: Given, steps: int) -> None:
    """The same, all of its processes killed at once when so many steps are saved."""
    process, last = begun(world, folder, out, given), out / LAST
    while not last.exists() or load(last).progress["step"] < steps:
        assert process.poll() is None
        time.sleep(0.005)
    launcher = psutil.Process(process.pid)
    family = [launcher, *launcher.children(recursive=True)]
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end by itself just now
            one.kill()
    process.communicate()
    psutil.wait_procs(family)
    assert not load(last).progress["finished"]


def same(one: Path, other: Path) -> bool:
    """Whether two runs end alike, bit for bit."""
    pairs = [(load_file(one / name), load_file(other / name)) for name in (LAST, BEST)]
    weights = all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) for a, b in pairs
    )
    return weights and events(one) == events(other)


@pytest.mark.parametrize(
    ("world", "given", "steps"),
    [
        (2, {"model": "crnn", "options": "hidden=8"}, 6),
        (2, {"model": "conv1d", "window": 8, "save_every": 1}, 8),
        (3, {"model": "crnn", "save_every": 1}, 8),
    ],
)
def test_killed_processes_end_with_the_same_weights(
    world: int, given: Given, steps: int, words: Path, tmp_path: Path
) -> None:
    """After the checkpoint of an epoch, or in the midst of one; of two no sum has another order."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    torchrun(world, words, whole, given)
    killed(world, words, cut, given, steps)
    torchrun(world, words, cut, given)
    assert same(whole, cut)


def test_another_number_of_processes_goes_on(words: Path, tmp_path: Path) -> None:
    """No dropout, no batch normalisation, nothing to fill up: the same weights up to rounding."""
    given: Given = {"model": "lstm", "options": "hidden=16", "save_every": 1}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    torchrun(2, words, whole, given)
    killed(2, words, cut, given, 8)
    alone = shutil.copytree(cut, tmp_path / "alone")
    train(words, settings(given), alone)
    torchrun(3, words, cut, given)
    for other in (alone, cut):
        torch.testing.assert_close(load_file(whole / LAST), load_file(other / LAST))
        assert len(events(whole)) == len(events(other))
        for one, again in zip(events(whole)[:-1], events(other)[:-1], strict=True):
            for name in ("loss", "train_loss", "held_out_loss"):
                assert one[name] == pytest.approx(again[name], rel=1e-5)


def test_another_number_of_processes_begins_an_epoch_of_windows(
    words: Path, tmp_path: Path
) -> None:
    given: Given = {"model": "lstm", "options": "hidden=16", "window": 8, "batch_size": 2}
    cut, other = tmp_path / "cut", tmp_path / "other"
    killed(2, words, cut, given | {"save_every": 1}, 3)
    message = (
        r"last.safetensors: can't go on from it: it is in the midst of an epoch that window=8 cut "
        r"into batches of 1 per process, now 2, so that only as many processes as before can; remo"
    )
    with pytest.raises(ModelError, match=message):
        train(words, settings(given), cut)
    killed(2, words, other, given, 18)  # saved with the evaluation after an epoch
    assert load(other, LAST).progress["loader"]["batch"] == 0
    assert train(words, settings(given), other).steps == 5 * 18


def test_several_processes_train_as_one(words: Path, tmp_path: Path) -> None:
    given: Given = {"model": "lstm", "options": "hidden=16", "eval_every": 1, "epochs": 1}
    told = torchrun(2, words, tmp_path / "two", given).splitlines()
    assert told[-1] == str(tmp_path / "two")
    assert len(told) == 6 + 2  # one process speaks
    train(words, settings(given), tmp_path / "one")
    pairs = list(zip(*(events(tmp_path / name) for name in ("one", "two")), strict=True))
    assert len(pairs) == 7
    for one, other in pairs[:-1]:
        for name in ("loss", "train_loss", "held_out_loss"):
            assert one[name] == pytest.approx(other[name], rel=1e-4)
        assert one["train"] == other["train"]


def test_what_is_told_is_of_the_weights_that_are_kept(words: Path, tmp_path: Path) -> None:
    """Though each process has running means of its own."""
    out = tmp_path / "run"
    torchrun(2, words, out, {"model": "conv1d", "lr": 0.01})
    told = {event["step"]: event["held_out_loss"] for event in events(out)[:-1]}
    for name in (BEST, LAST):
        saved = load(out, name)
        found = evaluated(saved, open_dataset(words, key=True), "validation", "cpu")
        assert found.loss == pytest.approx(told[saved.progress["step"]], rel=1e-5)


def test_errors_of_several_processes(words: Path, tmp_path: Path) -> None:
    """Each is told as one process tells it; none by the end of a connection."""
    out, given = tmp_path / "run", {"model": "conv2d", "options": "", "lr": 1e30}
    told = failed(2, words, out, given | {"optimizer": "sgd", "epochs": 30})
    *_, last = events(out)
    assert (last["what"], len(last["keys"])) == ("no number", 6)  # of both processes
    assert f"step {last['step']}: the loss is {last['loss']}" in told
    assert ", ".join(last["keys"]) in told
    for changed, message in (
        ({"optimizer": "sgd"}, f"{out} holds a run with epochs=30, now 5: choose another --out"),
        ({"batch_size": 5}, "batch_size=5: expected a multiple of the 2 processes that share it"),
    ):
        told = failed(2, words, out, given | changed)
        assert f"shardwell: {message}" in told
        assert "Connection closed" not in told
