"""What can't be trained, evaluated or predicted, from the command line: a line that says why."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from pipeline.cli import main
from pipeline.features import Mfcc
from pipeline.loader import open_dataset
from pipeline.prepare import Request, prepare_dataset
from pipeline.train.checkpoint import load
from pipeline.train.folder import events
from tests.sealed import Made, write_made

Ask = Callable[..., Request]


def failed(capsys: pytest.CaptureFixture[str], code: int, *arguments: object) -> str:
    """Run a command that fails with that code; the first line of what it says."""
    assert main([str(a) for a in arguments]) == code
    return capsys.readouterr().err.splitlines()[0]


def test_a_dataset_that_does_not_fit(
    ask_commands: Ask,
    ask_phrases: Ask,
    digits_dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words, phrases = (prepare_dataset(ask()).folder for ask in (ask_commands, ask_phrases))
    cases = [
        (words, "dnn_ctc", "needs a text label to learn, but word is class; what fits it: conv2d"),
        (phrases, "lstm", "but normalized_text is text; what fits it: dnn_ctc, crnn_ctc"),
        (digits_dataset, "conv1d", "are any; what fits it: recurrent, text_crnn"),
        (words, "recurrent", "recurrent needs tokens, but mfcc of this dataset are 101×40; what"),
    ]
    for folder, model, told in cases:
        out = tmp_path / "run"
        assert told in failed(capsys, 2, "train", folder, "--model", model, "--out", out)
        assert not out.exists()


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_examples_without_a_class_are_told_before_training(
    split: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"{n}", {"word": n % 2}, np.zeros((9, 40), np.float32)) for n in range(6)]
    odd = [(key, {"word": -1} if key == "3" else label, row) for key, label, row in rows]
    splits = {name: odd if name == split else rows for name in ("train", "validation", "test")}
    names = {"word": ["no", "yes"]}
    made = Made(Mfcc.at(16000, n_mfcc=40), {"word": "class"}, splits, names, fixed=True)
    folder, out = write_made(tmp_path / "data", made), tmp_path / "run"
    arguments = "--target", "word", "--model", "conv2d", "--out", out
    told = failed(capsys, 2, "train", folder, *arguments)
    assert f"1 of 6 examples of {split} have no word; prepare it without them" in told
    assert not out.exists()


def test_a_loss_that_is_no_number_names_its_step_and_keys(
    ask_commands: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepare_dataset(ask_commands()).folder
    out = tmp_path / "run"
    settings = "--model conv2d --epochs 30 --batch-size 9 --lr 1e30 --optimizer sgd --device cpu"
    line = failed(capsys, 1, "train", folder, *settings.split(), "--out", out)
    *_, last = events(out)
    keys = open_dataset(folder, key=True)["train"].column("key").tolist()
    assert last["what"] == "no number"
    assert sorted(last["keys"]) == sorted(keys)
    assert line.startswith(f"shardwell: step {last['step']}: the loss is ")
    assert f"{', '.join(last['keys'][:8])} and 1 more; the last good weights are in {out}" in line
    kept = load(out, "last.safetensors")
    assert kept.progress["step"] < last["step"]
    assert all(torch.isfinite(tensor).all() for tensor in kept.weights.values())


def test_a_transcript_that_is_too_long_names_its_clip(
    ask_phrases: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = prepare_dataset(ask_phrases()).folder
    settings = ["--model", "dnn_ctc", "--options", "stride=60,hidden=8", "--device", "cpu"]
    line = failed(capsys, 1, "train", folder, *settings, "--out", tmp_path / "run")
    key = line.removeprefix("shardwell: ").partition(":")[0]
    assert key in open_dataset(folder, key=True)["train"].column("key").tolist()
    assert "its transcript needs" in line
    assert "take a smaller stride" in line


def test_what_a_saved_model_can_not_be_asked(
    ask_commands: Ask, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, run = prepare_dataset(ask_commands()).folder, tmp_path / "run"
    settings = ["--model", "conv1d", "--epochs", "1", "--device", "cpu", "--json"]
    assert main(["train", str(folder), *settings, "--out", str(run)]) == 0
    other = prepare_dataset(ask_commands(features="mfcc:n_mels=50")).folder
    capsys.readouterr()
    line = failed(capsys, 1, "evaluate", run, other)
    assert "trained with n_mels=64, this dataset has n_mels=50; prepare one like the mod" in line

    good, bad = tmp_path / "good.wav", tmp_path / "bad.wav"
    soundfile.write(good, torch.zeros(16000).numpy(), 16000)
    bad.write_bytes(good.read_bytes()[:20])
    assert main(["predict", str(run), str(bad), str(good), "--json"]) == 1
    captured = capsys.readouterr()
    problem, answer = json.loads(captured.out)
    assert captured.err.startswith(f"shardwell: {bad}: ")
    assert problem["file"] == str(bad)
    assert problem["problem"]
    assert len(answer["best"]) == 3
    for flag, value in (("--top", "0"), ("--chunk", "0"), ("--chunk", "inf"), ("--chunk", "nan")):
        line = failed(capsys, 2, "predict", run, good, flag, value)
        assert line.startswith(f"shardwell: {flag} {float(value):g}"), line
    line = failed(capsys, 1, "predict", tmp_path / "none", good)
    assert "expected a saved model, got no such file" in line
