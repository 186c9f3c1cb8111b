"""Saved models answer as they did in training: on datasets, files, streams, and as ONNX."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from pipeline.cli import main
from pipeline.errors import ClipError, ModelError, UsageError
from pipeline.features import LogMel, Mfcc, Spectrogram
from pipeline.features.module import FeatureModule
from pipeline.loader import open_dataset
from pipeline.prepare import Request, prepare_dataset
from pipeline.train import settings_for, train
from pipeline.train.checkpoint import Saved, load
from pipeline.train.export import export_onnx
from pipeline.train.frames import Framing
from pipeline.train.models.crnn import Crnn
from pipeline.train.predict import evaluated, predict, reading, stream
from pipeline.train.robustness import robustness

Ask = Callable[..., Request]
STREAMS = "log_mel:n_mels=40,top=none"


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def trained(folder: Path, out: Path, **given: object) -> Saved:
    train(folder, settings_for({"epochs": 2, "batch_size": 4, "device": "cpu"} | given, {}), out)
    return load(out)


@pytest.fixture
def clips(ask_commands: Ask) -> Path:
    return prepare_dataset(ask_commands(features="waveform")).folder


@pytest.fixture
def hears(clips: Path, tmp_path: Path) -> Saved:
    """A unidirectional model that was trained on waveforms; its run is in ``tmp_path/run``."""
    options = {"hidden": 8, "bidirectional": False}
    return trained(clips, tmp_path / "run", model="crnn", options=options, features=STREAMS)


@pytest.fixture
def files(clips: Path, tmp_path: Path) -> list[Path]:
    """The test clips as WAV files, one of them at another rate and in stereo."""
    split, found = open_dataset(clips)["test"], []
    for i in range(3):
        found.append(tmp_path / f"{i}.wav")
        soundfile.write(found[-1], split[i]["features"].numpy(), 16000, "PCM_16")
    other = tmp_path / "other.flac"
    samples = np.sin(np.arange(44100) / 20) / 2
    soundfile.write(other, np.stack([samples, samples], axis=1), 44100)
    return [*found, other]


def test_a_model_of_stored_features_answers_the_same_from_files(
    ask_commands: Ask, clips: Path, files: list[Path], tmp_path: Path
) -> None:
    stored = prepare_dataset(ask_commands()).folder
    saved = trained(stored, tmp_path / "run", model="conv2d")
    found = evaluated(saved, open_dataset(stored), "test")
    heard = evaluated(saved, open_dataset(clips), "test")
    assert found.answers == heard.answers
    assert found.loss == pytest.approx(heard.loss, rel=1e-3)
    told = list(predict(saved, files, 3))
    names = saved.description.names
    assert [p.best[0][0] for p in told[:3]] == [names[i] for i in found.answers]
    for prediction in told:
        assert sum(share for _, share in prediction.best) == pytest.approx(1)
        assert prediction.best[0][1] == max(share for _, share in prediction.best)


@pytest.mark.parametrize(
    "features",
    ["log_mel", "mfcc@kaldi:deltas=1,normalize=mean_variance", "log_mel@whisper:edges=zeros"],
)
def test_clips_of_any_length_are_heard_without_their_padding(
    features: str, ask_commands: Ask, tmp_path: Path
) -> None:
    """As waveforms, a batch of clips gives what the dataset of the model's own features holds."""
    stored, clips = (
        open_dataset(
            prepare_dataset(ask_commands(features=kind, audio="trim_db=10,duration=none")).folder
        )
        for kind in (features, "waveform")
    )
    saved = trained(stored.sealed.folder, tmp_path / "run", model="crnn", options={"hidden": 8})
    seen = []
    for data in (stored, clips):
        batch = data["train"].batch(range(9))
        assert len(set(batch["lengths"].tolist())) > 1
        seen.append(reading(saved, data).prepared(batch["features"], batch["lengths"]))
    torch.testing.assert_close(seen[0], seen[1], rtol=1e-3, atol=1e-3)
    found, heard = (evaluated(saved, data, "train") for data in (stored, clips))
    assert found.answers == heard.answers
    assert found.loss == pytest.approx(heard.loss, rel=1e-3)


@pytest.mark.parametrize("chunk", [0.01, 0.137, 5.0, float("inf")])
def test_a_stream_ends_with_the_whole_clips_answer(
    hears: Saved, files: list[Path], chunk: float
) -> None:
    (whole,) = predict(hears, files[:1], 3)
    *_, last = stream(hears, files[0], chunk, 3)
    assert last.seconds == 1.0
    assert [name for name, _ in last.best] == [name for name, _ in whole.best]
    shares = [[share for _, share in best] for best in (last.best, whole.best)]
    assert shares[0] == pytest.approx(shares[1], abs=1e-5)


@pytest.mark.parametrize("sizes", [(1, 2, 3, 7, 50, 38), (101,), (4,) * 25 + (1,), (1,) * 101])
def test_chunks_of_frames_are_heard_as_the_whole(sizes: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = Crnn(40, 5, hidden=8, bidirectional=False).eval()
    features = torch.randn(2, 101, 40)
    with torch.inference_mode():
        whole = model(features, torch.tensor([101, 101]))
        state = model.begin(features)
        for part in features.split(list(sizes), dim=1):
            logits, state = model.hear(part, state)
    torch.testing.assert_close(logits, whole)


@torch.inference_mode()
@pytest.mark.parametrize("frames", range(9))
def test_after_every_frame_a_stream_says_what_a_clip_that_long_says(frames: int) -> None:
    torch.manual_seed(0)
    model = Crnn(40, 5, hidden=8, bidirectional=False).eval()
    features = torch.randn(2, frames, 40)
    logits, state = model.hear(features[:, :0], model.begin(features))
    for n in range(frames):
        logits, state = model.hear(features[:, n : n + 1], state)
    torch.testing.assert_close(logits, model(features, torch.tensor([frames, frames])))


@pytest.mark.parametrize("n", [16000, 15999, 1700, 801])
@pytest.mark.parametrize(
    "feature",
    [
        LogMel.at(16000, top=None),
        LogMel.at(16000, "kaldi", drop_last=True),
        LogMel.at(16000, edges="zeros", top=None, win_length=300),
        Mfcc.at(16000, "kaldi"),
        Spectrogram.at(16000, edges="same"),
        LogMel.at(16000, edges="same", n_fft=800, win_length=200, hop_length=600, top=None),
        LogMel.at(16000, top=None, win_length=400, hop_length=800),
        LogMel.at(16000, "kaldi", win_length=100, hop_length=500, drop_last=True),
    ],
    ids=["reflect", "snip", "zeros", "mfcc", "same", "gap before", "gaps", "gaps, drop_last"],
)
def test_frames_of_a_stream_are_those_of_the_clip(feature: LogMel, n: int) -> None:
    samples = torch.rand(1, n, generator=torch.Generator().manual_seed(n)) - 0.5
    whole = FeatureModule(feature)(samples)
    for size in (37, 160, 1000, n):
        framing, parts = Framing(feature), []
        for begin in range(0, n, size):
            end = min(begin + size, n)
            parts.append(framing.hear(samples[:, begin:end], last=end == n))
        torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (LogMel.at(16000), "features with top need the whole clip.*log_mel:top=none"),
        (Mfcc.at(16000, "kaldi", deltas=1), "features with deltas need.*mfcc:deltas=0"),
        (LogMel.at(16000, "kaldi", normalize="mean"), "features with normalize need"),
    ],
)
def test_features_of_whole_clips_are_not_streamed(spec: LogMel, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Framing(spec)


def test_a_clip_that_is_too_short_for_a_stream() -> None:
    with pytest.raises(ClipError, match="50 samples are too few: expected 201"):
        Framing(LogMel.at(16000, top=None)).hear(torch.zeros(1, 50), last=True)


@pytest.mark.parametrize("model", ["conv2d", "crnn", "lstm", "conv1d", "bcresnet"])
def test_an_exported_model_takes_samples(model: str, clips: Path, tmp_path: Path) -> None:
    import onnxruntime

    options = {"bcresnet": {"scale": 1}, "crnn": {"hidden": 8}}.get(model, {})
    saved = trained(clips, tmp_path / "run", model=model, options=options, epochs=1)
    path = tmp_path / "model.onnx"
    assert export_onnx(saved, path) < 1e-4
    session = onnxruntime.InferenceSession(path)
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["names"]) == list(saved.description.names)
    assert told["sample_rate"] == "16000"
    data = open_dataset(clips)["test"]
    samples = data.batch([0, 1, 2])["features"].numpy()
    (logits,) = session.run(["logits"], {"samples": samples})
    answers = evaluated(saved, open_dataset(clips), "test").answers
    assert logits.argmax(axis=1).tolist() == answers


def test_robustness_is_told_by_condition(hears: Saved, clips: Path) -> None:
    rows = list(robustness(hears, open_dataset(clips), "test"))
    names = [row.name for row in rows]
    assert names[:3] == ["as recorded", "speakers that train lacks", "noise at 20 dB"]
    assert names[-1] == "speed 1.1"
    assert len(rows) == 11
    assert rows == list(robustness(hears, open_dataset(clips), "test"))
    assert all(0 <= row.score <= 1 and row.examples == 3 for row in rows)


def test_another_feature_is_told_by_the_difference(
    ask_commands: Ask, clips: Path, digits_dataset: Path, tmp_path: Path
) -> None:
    saved = trained(prepare_dataset(ask_commands()).folder, tmp_path / "run", model="conv2d")
    cases = [
        (ask_commands(features="mfcc:n_mels=50"), "trained with n_mels=64, this .* n_mels=50"),
        (ask_commands(features="log_mel:n_mels=40"), "with kind=mfcc, this dataset has kind=log_m"),
        (ask_commands(audio="peak_db=-3"), "trained with audio peak_db=None, .* peak_db=-3.0"),
        (ask_commands(audio="peak_db=-3", features="waveform"), "trained with audio peak_db=None"),
    ]
    for request, message in cases:
        with pytest.raises(ModelError, match=message):
            evaluated(saved, open_dataset(prepare_dataset(request).folder), "test")
    heard = open_dataset(clips)
    for device, message in (("cuda", "expected cpu, or auto"), ("cuba", "expected one of cuda")):
        if not (device == "cuda" and torch.cuda.is_available()):
            with pytest.raises(UsageError, match=message):
                evaluated(saved, heard, "test", device)
    with pytest.raises(ModelError, match="kind=mfcc, this dataset has kind=tokens"):
        evaluated(saved, open_dataset(digits_dataset), "test")


def test_the_commands(
    hears: Saved,
    clips: Path,
    files: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert hears.description.hears
    run, bad = str(tmp_path / "run"), tmp_path / "bad.wav"
    bad.write_bytes(b"RIFF nonsense")
    assert main(["evaluate", run, str(clips), "--split", "validation"]) == 0
    assert capsys.readouterr().out.startswith("accuracy 0.")
    assert main(["evaluate", run, str(clips), "--robustness", "--device", "cpu", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 11
    arguments = [str(files[0]), str(bad), str(tmp_path / "none.wav"), str(files[3])]
    assert main(["predict", run, *arguments, "--top", "2"]) == 1
    captured = capsys.readouterr()
    assert [line.split()[0] for line in captured.out.splitlines()] == arguments[::3]
    assert f"shardwell: {bad}: not readable as audio" in captured.err
    assert "none.wav: No such file or directory" in captured.err
    assert main(["predict", run, str(files[0]), "--stream", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["chunks"] == 10
    assert 0 < row["median_ms"] <= row["worst_ms"]
    assert row["real_time_factor"] > 0
    assert main(["export-onnx", run]) == 0
    assert Path(capsys.readouterr().out.splitlines()[-1]) == tmp_path / "run" / "model.onnx"


def test_what_a_model_can_not_do(
    ask_commands: Ask, clips: Path, files: list[Path], tmp_path: Path
) -> None:
    saved = trained(clips, tmp_path / "both", model="crnn", options={"hidden": 8}, epochs=1)
    with pytest.raises(ModelError, match=r"hears a clip as a whole; .* bidirectional=false"):
        list(stream(saved, files[0], 0.1, 1))
    stored = prepare_dataset(ask_commands()).folder
    with pytest.raises(ModelError, match="this dataset holds mfcc; prepare one with --features w"):
        evaluated(saved, open_dataset(stored), "test")
    with pytest.raises(
        ModelError, match="robustness is heard on samples of one length, this dataset holds mfcc"
    ):
        list(robustness(saved, open_dataset(stored), "test"))
