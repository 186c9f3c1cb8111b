"""A trained transcriber read with a language model, through the trainer's own files."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
import soundfile
import torch

from pipeline.characters import normalise
from pipeline.cli import main
from pipeline.errors import ModelError, UsageError
from pipeline.loader import open_dataset
from pipeline.prepare import Request, prepare_dataset
from pipeline.train import settings_for, train
from pipeline.train.arpa import read_arpa
from pipeline.train.checkpoint import load
from pipeline.train.decoding import decode, language_model, sentences
from pipeline.train.export import export_onnx
from pipeline.train.fusion import fuse
from pipeline.train.predict import hearing, predict, stream

Ask = Callable[..., Request]
STREAMS = "log_mel:n_mels=40,top=none"
SMALL = {"hidden": 48, "layers": 2, "context": 4, "dropout": 0.0}


def trained(folder: Path, out: Path, **given: object) -> Path:
    hints = open_dataset(folder).info["hints"]
    train(folder, settings_for({"device": "cpu"} | given, hints), out)
    return out


@pytest.fixture
def phrases(ask_phrases: Ask) -> Path:
    return prepare_dataset(ask_phrases()).folder


@pytest.fixture
def heard(phrases: Path, tmp_path: Path) -> Path:
    """The run of a model that has begun to spell."""
    given = {"epochs": 12, "batch_size": 3, "lr": 0.003, "options": SMALL}
    return trained(phrases, tmp_path / "run", model="dnn_ctc", **given)


def test_one_sound_is_read_three_ways(phrases: Path, heard: Path) -> None:
    data = open_dataset(phrases, key=True)
    text = sentences(data, "normalized_text")
    assert len(text) == 6  # train's own
    assert language_model(text).order == 3
    found = decode(load(heard), data, "test", language_model(text))
    for way in (found.greedy, found.beam, found.fused):
        assert all(value >= 0 for value in asdict(way).values())
    assert found.greedy.cer < 1  # it heard something
    assert found.alpha > 0
    with pytest.raises(UsageError, match="weights are chosen on it; say test"):
        decode(load(heard), data, "validation", language_model(text))


def test_a_language_model_by_command(
    phrases: Path, heard: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Estimated, written and used; read again; refused where it has no say."""
    run, where = str(heard), str(phrases)
    assert main(["evaluate", run, where, "--lm-text", "train"]) == 0
    first, *told = capsys.readouterr().out.splitlines()
    assert first == f"a language model of 6 transcripts: {heard / 'words.arpa'}"
    assert [line[:20].strip() for line in told[:3]] == ["greedy", "beam", "with language model"]
    assert main(["evaluate", run, where, "--arpa", str(heard / "words.arpa")]) == 0
    assert capsys.readouterr().out.splitlines() == told
    held_out = set(open_dataset(phrases)["test"].column("normalized_text").tolist())
    seen = {word for (word,) in read_arpa(heard / "words.arpa").tables[0]}
    kept = open_dataset(phrases)["train"].column("normalized_text").tolist()
    said = {word for sentence in kept for word in normalise(sentence).split()}
    assert seen == said | {"<s>", "</s>", "<unk>"}
    assert not held_out & set(kept)

    every = [(split, open_dataset(phrases, key=True)[split]) for split in open_dataset(phrases)]
    lines = [
        f"{key}|{text}\n"
        for _, split in every
        for key, text in zip(split.column("key"), split.column("normalized_text"), strict=True)
    ]
    more = tmp_path / "more.csv"
    more.write_text("".join(lines) + "elsewhere|Another sentence\n")
    arguments = ["--lm-text", str(more), "--arpa", str(tmp_path / "more.arpa"), "--json"]
    assert main(["evaluate", run, where, *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["alpha"] > 0
    assert ("another", "sentence") in read_arpa(tmp_path / "more.arpa").tables[1]
    assert main(["evaluate", run, where, "--robustness", "--arpa", "x"]) == 2
    assert "leave one of them out" in capsys.readouterr().err


def test_a_stream_is_transcribed_as_the_whole(ask_phrases: Ask, tmp_path: Path) -> None:
    """With and without a language model, by the sound's probability and the letters."""
    folder = prepare_dataset(ask_phrases(features=STREAMS)).folder
    options = {"hidden": 24, "channels": 4, "bidirectional": False, "dropout": 0.0}
    given = {"epochs": 15, "batch_size": 3, "lr": 0.01, "options": options}
    saved = load(trained(folder, tmp_path / "run", model="crnn_ctc", **given))
    samples = open_dataset(prepare_dataset(ask_phrases(features="waveform")).folder)["test"][0]
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, samples["features"].numpy(), 22050, "PCM_16")
    text = sentences(open_dataset(folder, key=True), "normalized_text")
    for fusion in (None, fuse(language_model(text), 1.0, 2.0)):
        (whole,) = predict(saved, [clip], 3, fusion)
        for chunk in (0.05, 0.3, 100.0):
            *_, last = stream(saved, clip, chunk, 3, fusion)
            assert [t for t, _ in last.best] == [t for t, _ in whole.best]
            shares = [[p for _, p in best] for best in (last.best, whole.best)]
            assert shares[0] == pytest.approx(shares[1], rel=1e-3)


def test_predict_with_a_language_model_by_command(
    phrases: Path,
    heard: Path,
    ask_phrases: Ask,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clip, other = tmp_path / "clip.wav", tmp_path / "run" / "words.arpa"
    samples = open_dataset(prepare_dataset(ask_phrases(features="waveform")).folder)["train"][0]
    soundfile.write(clip, samples["features"].numpy(), 22050, "PCM_16")
    assert main(["evaluate", str(heard), str(phrases), "--lm-text", "train"]) == 0
    capsys.readouterr()
    for arguments in ([], ["--lm", str(other), "--alpha", "2", "--beta", "0"]):
        assert main(["predict", str(heard), str(clip), *arguments]) == 0
        assert capsys.readouterr().out.startswith(f"{clip}  ")
    assert main(["predict", str(heard), str(clip), "--stream"]) == 1
    assert "--model crnn_ctc --options bidirectional=false" in capsys.readouterr().err
    assert main(["predict", str(heard), str(clip), "--lm", str(clip)]) == 1
    assert "expected an ARPA file" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("dnn_ctc", SMALL),
        ("crnn_ctc", {"hidden": 16, "channels": 4}),
        ("crnn_ctc", {"hidden": 16, "channels": 4, "bidirectional": False}),
    ],
)
def test_transcribers_are_exported(
    phrases: Path, tmp_path: Path, model: str, options: dict[str, object]
) -> None:
    """Of any number of clips, of any length."""
    import onnxruntime

    saved = load(trained(phrases, tmp_path / "run", model=model, epochs=1, options=options))
    path = tmp_path / "model.onnx"
    assert export_onnx(saved, path) < 1e-3
    recogniser = hearing(saved)
    for shape in ((1, 30011), (3, 12345)):
        samples = torch.rand(shape, generator=torch.Generator().manual_seed(1)) - 0.5
        with torch.inference_mode():
            frames = recogniser(samples, torch.full((shape[0],), shape[1]))
        (logits,) = onnxruntime.InferenceSession(path).run(None, {"samples": samples.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), frames.logits, atol=1e-3, rtol=0)


def test_what_can_not_be_decoded_is_named(
    phrases: Path, heard: Path, ask_commands: Ask, tmp_path: Path
) -> None:
    words = open_dataset(prepare_dataset(ask_commands()).folder, key=True)
    data = open_dataset(phrases, key=True)
    language = language_model(["a b c"])
    classifier = trained(words.sealed.folder, tmp_path / "words", model="conv1d", epochs=1)
    with pytest.raises(UsageError, match="expected a model that transcribes, got conv1d"):
        decode(load(classifier), data, "test", language)
    with pytest.raises(ModelError):
        decode(load(heard), words, "test", language)
    others = tmp_path / "others.csv"
    others.write_text("somebody|else\n")
    with pytest.raises(UsageError, match=r"does not name .*, which is held out \(6 of 6"):
        sentences(data, "normalized_text", others)


@pytest.mark.parametrize(
    ("model", "options"),
    [("recurrent", {"cell": "gru"}), ("text_crnn", {"branches": 2, "hidden": 16})],
)
def test_readers_of_tokens_train_like_any_model(
    digits_dataset: Path, tmp_path: Path, model: str, options: dict[str, object]
) -> None:
    given = {"model": model, "epochs": 8, "batch_size": 20, "lr": 0.01, "options": options}
    settings = settings_for(given | {"device": "cpu"}, {"target": "sum"})
    done = train(digits_dataset, settings, tmp_path / "run")
    assert done.test is not None
    assert done.test.scores["accuracy"] > done.test.chance + 0.05
