"""Speech to text on the 135 real clips: it learns, and a language model makes fewer words wrong."""

from pathlib import Path

import pytest
import torch

from pipeline.characters import normalise
from pipeline.loader import open_dataset
from pipeline.prepare import Request, prepare_dataset
from pipeline.train import settings_for, train
from pipeline.train.checkpoint import load
from pipeline.train.decoding import Decoded, decode, language_model, sentences
from pipeline.train.lm_text import read_transcripts
from tests.conftest import real_data

pytestmark = [pytest.mark.real, pytest.mark.slow]
HERE = Path(__file__).parent / "real"
TRANSCRIPTS = "ljspeech_metadata_full.csv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """The 40 MFCC of 105 + 10 + 20 clips."""
    return prepare_dataset(
        Request(
            "ljspeech",
            manifest=HERE / "ljspeech.toml",
            sources={"archive": real_data() / "LJSpeech-1.1_subset.tar.bz2"},
            out=tmp_path_factory.mktemp("speech"),
            cache=cache,
            workers=2,
            offline=True,
        )
    ).folder


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 40 epochs: four minutes on one thread of a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    settings = settings_for({"model": "dnn_ctc", "epochs": 40}, open_dataset(folder).info["hints"])
    reports: list[float] = []
    out = tmp_path_factory.mktemp("runs") / "dnn"
    train(folder, settings, out, tell=lambda report: reports.append(report.train["cer"]))
    torch.set_num_threads(threads)
    assert reports[-1] < 0.10
    return out


@pytest.fixture(scope="module")
def text(folder: Path) -> list[str]:
    """All of LJSpeech's sentences but those of the 30 held-out clips."""
    transcripts = real_data() / TRANSCRIPTS
    return sentences(open_dataset(folder, key=True), "normalized_text", transcripts)


@pytest.fixture(scope="module")
def decoded(folder: Path, run: Path, text: list[str]) -> Decoded:
    return decode(load(run), open_dataset(folder), "test", language_model(text))


def test_no_held_out_clip_is_in_the_language_models_text(
    folder: Path, text: list[str], decoded: Decoded
) -> None:
    assert len(text) <= len(read_transcripts(real_data() / TRANSCRIPTS)) - 30
    data = open_dataset(folder)
    for split in ("validation", "test"):
        held_out = data[split].column("normalized_text").tolist()
        assert not {normalise(said) for said in held_out} & set(text)
    assert decoded.perplexity > 100  # it knows the language, not these very sentences


def test_the_language_model_makes_fewer_words_wrong(decoded: Decoded) -> None:
    assert decoded.fused.wer < decoded.beam.wer - 0.03
    assert decoded.fused.wer < decoded.greedy.wer - 0.03
    assert decoded.beam.cer < decoded.greedy.cer + 0.01
