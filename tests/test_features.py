"""Features: equal to torchaudio, and a contract that every kind keeps."""

import pickle
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import ClipError, FeatureError, UsageError
from pipeline.features import (
    KINDS,
    Feature,
    LogMel,
    Mfcc,
    Pixels,
    Spectrogram,
    Tokens,
    Waveform,
    from_dict,
    parse,
    to_dict,
)
from pipeline.features.spectral import speech_windows

RNG = np.random.default_rng(11)


def speech(batch: int, n: int) -> np.ndarray:
    """Something with the dynamics of speech: noise and tones under a moving envelope."""
    t = np.arange(n) / 16000
    envelope = np.abs(np.sin(2 * np.pi * 2 * t)) ** 3
    clips = [
        envelope * (0.3 * np.sin(2 * np.pi * (120 + 40 * i) * t) + 0.05 * RNG.standard_normal(n))
        for i in range(batch)
    ]
    return np.stack(clips).astype(np.float32)


def reference(torchaudio: ModuleType, spec: Any, clip: np.ndarray) -> np.ndarray:
    """One clip's features as torchaudio.transforms computes them, (frames, bins)."""
    stft = {"n_fft": spec.n_fft, "win_length": spec.win_length, "hop_length": spec.hop_length}
    transforms = torchaudio.transforms
    decibels = transforms.AmplitudeToDB("power", spec.top_db)
    if isinstance(spec, Spectrogram):
        power = 1.0 if spec.values == "magnitude" else 2.0
        values = transforms.Spectrogram(power=power, **stft)(torch.from_numpy(clip))
        values = decibels(values) if spec.values == "db" else values
    else:
        mel = {"n_mels": spec.n_mels, "f_min": spec.f_min, "f_max": spec.f_max, **stft}
        if isinstance(spec, Mfcc):
            made = transforms.MFCC(spec.sample_rate, spec.n_mfcc, melkwargs=mel)
            values = made(torch.from_numpy(clip))
        else:
            made = transforms.MelSpectrogram(spec.sample_rate, **mel)
            values = decibels(made(torch.from_numpy(clip)))
    return values.T.numpy()


SPECS = [
    Mfcc.at(16000),
    Mfcc(22050, 1024, 551, 220, n_mfcc=13, n_mels=40, f_min=20.0, f_max=8000.0),
    LogMel.at(16000),
    LogMel(22050, 1024, 1024, 256, n_mels=80, f_max=8000.0),
    Spectrogram.at(16000),
    Spectrogram(16000, 512, 400, 100, values="magnitude"),
    Spectrogram(16000, 512, 401, 100, values="db"),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.kind}-{s.n_fft}")
@pytest.mark.parametrize("n", [16000, 5003])
def test_values_are_torchaudios(torchaudio: ModuleType, spec: Any, n: int) -> None:
    """Float32 front ends differ by rounding: 1e-4 of the largest value bounds it."""
    clips = speech(3, n)
    ours = spec.apply(clips)
    for row, clip in zip(ours, clips, strict=True):
        theirs = reference(torchaudio, spec, clip)
        assert row.shape == theirs.shape == spec.shape(n)
        np.testing.assert_allclose(row, theirs, atol=1e-4 * np.abs(theirs).max())


KIND_EXAMPLES: list[tuple[Feature, np.ndarray]] = [
    *((spec, speech(4, 8000)) for spec in SPECS),
    (Waveform(16000, "float32"), speech(4, 8000)),
    (Waveform(16000), np.rint(speech(4, 8000) * 20000).astype(np.float32) / 32768),
    (Pixels(), RNG.integers(0, 256, (4, 28, 28), np.uint8)),
    (Tokens(), RNG.integers(0, 10, (4, 15))),
]


@pytest.mark.parametrize(("spec", "batch"), KIND_EXAMPLES, ids=lambda v: getattr(v, "kind", ""))
class TestEveryKind:
    """The contract of a feature kind."""

    def test_the_shape_is_known_in_advance(self, spec: Feature, batch: np.ndarray) -> None:
        result = spec.apply(batch)
        assert result.dtype == np.dtype(spec.dtype)
        expected = spec.shape(batch.shape[1])
        assert all(e in (None, n) for e, n in zip(expected, result.shape[1:], strict=True))
        assert len(expected) == result.ndim - 1

    def test_a_row_of_a_batch_is_the_row_alone(self, spec: Feature, batch: np.ndarray) -> None:
        together = spec.apply(batch)
        for i in range(len(batch)):
            alone = spec.apply(batch[i : i + 1])[0]
            np.testing.assert_allclose(together[i], alone, rtol=1e-5, atol=1e-3)

    def test_the_input_is_left_alone(self, spec: Feature, batch: np.ndarray) -> None:
        before = batch.copy()
        spec.apply(batch)
        np.testing.assert_array_equal(batch, before)

    def test_it_survives_pickling_and_json(self, spec: Feature, batch: np.ndarray) -> None:
        assert pickle.loads(pickle.dumps(spec)) == spec
        assert from_dict(to_dict(spec)) == spec

    def test_another_version_is_refused(self, spec: Feature, batch: np.ndarray) -> None:
        for change in ({"version": 99}, {"kind": "mystery"}):
            with pytest.raises(FeatureError, match="does not know it"):
                from_dict(to_dict(spec) | change)


def test_every_kind_is_in_the_contract() -> None:
    assert {spec.kind for spec, _ in KIND_EXAMPLES} == set(KINDS)


def test_silence_is_finite_and_short_clips_are_refused() -> None:
    for spec in SPECS:
        assert np.isfinite(spec.apply(np.zeros((1, 4000), np.float32))).all()
        shortest = spec.n_fft // 2 + 1
        assert spec.apply(np.ones((1, shortest), np.float32)).shape[1] >= 1
        with pytest.raises(ClipError, match="samples are too few"):
            spec.apply(np.ones((1, shortest - 1), np.float32))


def test_waveforms_of_16_bits_are_exact_or_refused() -> None:
    steps = np.array([[-32768, -1, 0, 1, 32767]], np.int16)
    stored = Waveform(16000).apply(steps.astype(np.float32) / 32768)
    np.testing.assert_array_equal(stored, steps)
    for bad in (0.5 / 32768, 1.0):
        with pytest.raises(ClipError, match="not exactly 16-bit"):
            Waveform(16000).apply(np.array([[bad]], np.float32))


def test_pixels_and_tokens_of_another_kind_are_refused() -> None:
    with pytest.raises(ClipError, match="expected an image of 28×28 pixels, got 3×3"):
        Pixels().apply(np.zeros((1, 3, 3), np.uint8))
    with pytest.raises(ClipError, match="expected token ids 0 to 9, got 3 to 10"):
        Tokens().apply(np.array([[3, 10]]))


@pytest.mark.parametrize(
    ("rate", "windows"),
    [(8000, (200, 200, 80)), (16000, (400, 400, 160)), (22050, (576, 551, 220))],
)
def test_the_usual_windows(rate: int, windows: tuple[int, int, int]) -> None:
    assert speech_windows(rate) == windows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mfcc:n_fft=200", "mfcc: n_fft=200: expected win_length=400 or more"),
        ("mfcc:n_mfcc=65", "mfcc: n_mfcc=65: expected 1 to n_mels=64"),
        ("mfcc:n_mfcc=0", "mfcc: n_mfcc=0: expected 1 to"),
        ("log_mel:hop_length=0", "log_mel: hop_length=0: expected at least 1 sample"),
        ("log_mel:win_length=0", "log_mel: win_length=0: expected at least 1 sample"),
        ("log_mel:f_max=8001", "log_mel: f_max=8001.0: expected at most 8000.0 Hz"),
        ("log_mel:f_min=9000", "log_mel: f_min=9000.0: expected 0 to below f_max=8000.0"),
        ("log_mel:n_mels=128", "n_mels=128: "),
        ("log_mel:n_mels=0", "log_mel: n_mels=0: expected at least 1"),
        ("log_mel:top_db=-1", "log_mel: top_db=-1.0: expected a positive number"),
        ("log_mel@sphinx", "log_mel: front_end=sphinx: expected one of torchaudio"),
        ("spectrogram:values=phase", "spectrogram: values=phase: expected one of power"),
        ("waveform:dtype=int8", "waveform: dtype=int8: expected one of int16, float32"),
    ],
)
def test_parameters_that_make_no_sense_are_named(text: str, message: str) -> None:
    with pytest.raises(FeatureError) as caught:
        parse(text, 16000)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mffc", "unknown feature 'mffc': expected one of mfcc, "),
        ("mfcc:mels=3", "unknown option of features mfcc 'mels': expected one of n_mels"),
        ("mfcc:n_mels=many", "features mfcc: n_mels: expected int, got 'many'"),
        ("mfcc:n_mels", "features mfcc: n_mels: expected int, got ''"),
        ("mfcc:sample_rate=8000", "unknown option of features mfcc 'sample_rate'"),
        ("tokens@kaldi", "features 'tokens@kaldi': tokens has no front ends"),
    ],
)
def test_specs_that_can_not_be_read_are_named(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, 16000)
    assert str(caught.value).startswith(message)


def test_specs_are_read() -> None:
    assert parse("mfcc", 16000) == Mfcc(16000, 400, 400, 160)
    read = parse("log_mel@torchaudio:n_mels=40,f_max=none,top_db=60", 22050)
    assert read == LogMel(22050, 576, 551, 220, n_mels=40, top_db=60.0)
    assert parse("tokens:vocabulary=30", None) == Tokens(30)
    with pytest.raises(FeatureError, match="needs audio"):
        parse("mfcc", None)
