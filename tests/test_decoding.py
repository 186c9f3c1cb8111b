"""A trained transcriber read with a language model, through the trainer's own files."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from pipeline.errors import ModelError, UsageError
from pipeline.loader import open_dataset
from pipeline.prepare import Request, prepare_dataset
from pipeline.train import settings_for, train
from pipeline.train.arpa import read_arpa
from pipeline.train.checkpoint import load
from pipeline.train.decoding import decode
from pipeline.train.export import export_onnx

Ask = Callable[..., Request]
SMALL = {"hidden": 48, "layers": 2, "context": 4, "dropout": 0.0}


def trained(folder: Path, out: Path, **given: object) -> Path:
    hints = open_dataset(folder).info["hints"]
    train(folder, settings_for({"device": "cpu"} | given, hints), out)
    return out


@pytest.fixture
def phrases(ask_phrases: Ask) -> Path:
    return prepare_dataset(ask_phrases()).folder


def test_one_sound_is_read_three_ways(phrases: Path, tmp_path: Path) -> None:
    run = trained(
        phrases, tmp_path / "run", model="dnn_ctc", epochs=12, batch_size=3, lr=0.003, options=SMALL
    )
    found = decode(run, phrases, tmp_path / "words.arpa")
    assert found.sentences == 6  # train's own
    assert read_arpa(tmp_path / "words.arpa").order == 3
    for way in (found.greedy, found.beam, found.fused):
        assert all(value >= 0 for value in asdict(way).values())
    assert found.greedy.cer < 1  # it heard something
    assert found.alpha > 0


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
    run = trained(phrases, tmp_path / "run", model=model, epochs=1, options=options)
    assert export_onnx(load(run), tmp_path / "model.onnx") < 1e-3


def test_what_can_not_be_decoded_is_named(phrases: Path, ask_commands: Ask, tmp_path: Path) -> None:
    arpa = tmp_path / "words.arpa"
    words = prepare_dataset(ask_commands()).folder
    classifier = trained(words, tmp_path / "classifier", model="conv1d", epochs=1)
    with pytest.raises(UsageError, match="expected a model that transcribes, got conv1d"):
        decode(classifier, phrases, arpa)
    run = trained(phrases, tmp_path / "run", model="dnn_ctc", epochs=1, options=SMALL)
    with pytest.raises(ModelError):
        decode(run, words, arpa)
    others = tmp_path / "others.csv"
    others.write_text("somebody|else\n")
    with pytest.raises(UsageError, match=r"does not name .*, which is held out \(6 of 6"):
        decode(run, phrases, arpa, others)
    assert not arpa.exists()


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
