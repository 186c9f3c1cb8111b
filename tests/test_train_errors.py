"""What can't be trained, evaluated or predicted, from the command line: a line that says why."""

import io
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
from tests.clips import recordings
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


SHORT = {"blop.wav": 200, "blip.wav": 150, "blap.wav": 1}  # samples: too few for a frame


@pytest.fixture
def spoken(tmp_path: Path) -> Ask:
    """``ask(features)`` → a request for a table of clips as long as they are, some too short."""
    held_out = {"long1.wav": 9000, "long2.wav": 8000} | SHORT
    clips = dict(recordings(6))
    for name, samples in held_out.items():
        file = io.BytesIO()
        soundfile.write(file, np.full(samples, 0.1, np.float32), 16000, format="WAV")
        clips[name] = file.getvalue()
    splits = ["train"] * 6 + ["validation", "test", "validation", "test", "test"]
    lines = ["path\tlabel\ttext\tsplit"]
    for i, (name, data) in enumerate(clips.items()):
        (tmp_path / name).write_bytes(data)
        lines.append(f"{name}\t{('no', 'yes')[i % 2]}\t{'abcdefghijk'[i]}\t{splits[i]}")
    table = tmp_path / "spoken.tsv"
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")
    places = {"data": table, "out": tmp_path / "data", "cache": tmp_path / "cache"}
    return lambda features: Request(
        recipe="table", features=features, max_bad=len(SHORT), engine="serial", **places
    )


@pytest.mark.parametrize(
    ("model", "asked", "named"),
    [
        ("crnn", (), ("test", "blip.wav", 150, "2 of 3")),
        ("crnn", ("--split", "validation"), ("validation", "blop.wav", 200, "1 of 2")),
        ("crnn_ctc", (), ("test", "blip.wav", 150, "2 of 3")),
        ("crnn_ctc", ("--lm-text", "train"), ("validation", "blop.wav", 200, "1 of 2")),
    ],
)
def test_a_clip_too_short_for_a_frame_is_named(
    model: str,
    asked: tuple[str, ...],
    named: tuple[str, str, int, str],
    spoken: Ask,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The model's own features left such clips out; a dataset of the same samples holds them."""
    stored, clips = (
        prepare_dataset(spoken(kind)).folder for kind in ("log_mel:top=none", "waveform")
    )
    run, target = tmp_path / "run", "label" if model == "crnn" else "text"
    settings = ["--model", model, "--target", target, "--options", "hidden=8,bidirectional=false"]
    few = ["--epochs", "1", "--batch-size", "6", "--device", "cpu", "--json"]
    assert main(["train", str(stored), *settings, *few, "--out", str(run)]) == 0
    split, key, samples, share = named
    line = failed(capsys, 1, "evaluate", run, clips, *asked, "--device", "cpu")
    assert line == (
        f"shardwell: {clips}: {split}: {key} is too short for the model's log_mel: expected 201 "
        f"samples or more, got {samples} (too short: {share} clips); "
        "take a dataset of log_mel, prepared with --max-bad: it is without such clips"
    )
    assert main(["evaluate", str(run), str(stored), *asked, "--device", "cpu"]) == 0  # as it says
    for more in ((), ("--stream",)):
        line = failed(capsys, 1, "predict", run, tmp_path / key, *more)
        assert line.startswith(f"shardwell: {tmp_path / key}: {samples} samples are too few: expec")


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
