"""Features: equal to other tools' own, and a contract that every kind keeps."""

import pickle
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ClipError, FeatureError
from pipeline.features import (
    KINDS,
    Feature,
    LogMel,
    Mfcc,
    Pixels,
    Spectrogram,
    Tokens,
    Vector,
    Waveform,
    from_dict,
    to_dict,
)
from tests.other_tools import RNG, kaldi_reference, librosa_reference, speech, torchaudio_reference

REFERENCES = {
    "torchaudio": torchaudio_reference,
    "librosa": librosa_reference,
    "kaldi": kaldi_reference,
}

SPECS: list[Any] = [
    Mfcc.at(16000),
    Mfcc.at(22050, n_fft=1024, n_mfcc=13, n_mels=40, f_min=20.0, f_max=8000.0),
    Mfcc.at(16000, deltas=2),
    LogMel.at(16000),
    LogMel.at(22050, n_fft=1024, win_length=1024, hop_length=256, n_mels=80, f_max=8000.0),
    Spectrogram.at(16000),
    Spectrogram.at(16000, n_fft=512, hop_length=100, magnitude=True),
    Spectrogram.at(16000, n_fft=512, win_length=401, hop_length=100, values="log"),
    Spectrogram.at(16000, n_fft=434, win_length=401, hop_length=100),  # 7·31: SciPy's way
    LogMel.at(16000, "librosa"),
    Mfcc.at(22050, "librosa"),
    LogMel.at(16000, "kaldi"),
    LogMel.at(8000, "kaldi", n_mels=40, energy=True),
    Mfcc.at(16000, "kaldi"),
]


@pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.front_end}-{s.kind}-{s.sample_rate}")
@pytest.mark.parametrize("n", [16000, 5003])
@pytest.mark.usefixtures("torchaudio")
def test_values_are_the_tools(spec: Any, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 front ends differ by rounding: 1e-4 of the largest value bounds it."""
    clips = speech(3, n)
    ours = {"kernel": spec.apply(clips)}
    monkeypatch.setattr("pipeline.features.kernel._plan", lambda *spec: None)
    ours["scipy"] = spec.apply(clips)
    for i, clip in enumerate(clips):
        theirs = REFERENCES[spec.front_end](spec, clip)
        for values in ours.values():
            assert values[i].shape == theirs.shape == spec.shape(n)
            np.testing.assert_allclose(values[i], theirs, atol=1e-4 * np.abs(theirs).max())


KIND_EXAMPLES: list[tuple[Feature, np.ndarray]] = [
    *((spec, speech(4, 8000)) for spec in SPECS),
    (LogMel.at(16000, "whisper"), speech(4, 8000)),
    (LogMel.at(22050, "hifigan"), speech(4, 8000)),
    (LogMel.at(16000, normalize="mean_variance", dtype="float16"), speech(4, 8000)),
    (LogMel.at(16000, "kaldi", dither=1.0, deltas=1), speech(4, 8000)),
    (Waveform(16000, "float32"), speech(4, 8000)),
    (Waveform(16000), np.rint(speech(4, 8000) * 20000).astype(np.float32) / 32768),
    (Pixels(), RNG.integers(0, 256, (4, 28, 28), np.uint8)),
    (Vector(3, 5), RNG.integers(0, 256, (4, 3, 5), np.uint8)),
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
        shortest = spec.analysis.shortest
        found = spec.apply(np.ones((1, shortest), np.float32))
        assert found.shape[1] == spec.analysis.frames(shortest) >= 1
        with pytest.raises(ClipError, match="samples are too few"):
            spec.apply(np.ones((1, shortest - 1), np.float32))


def test_waveforms_of_16_bits_are_exact_or_refused() -> None:
    steps = np.array([[-32768, -1, 0, 1, 32767]], np.int16)
    stored = Waveform(16000).apply(steps.astype(np.float32) / 32768)
    np.testing.assert_array_equal(stored, steps)
    for bad in (0.5 / 32768, 1.0, -1.5, -2.0):
        with pytest.raises(ClipError, match="not exactly 16-bit"):
            Waveform(16000).apply(np.array([[bad]], np.float32))


def test_pixels_and_tokens_of_another_kind_are_refused() -> None:
    with pytest.raises(ClipError, match="expected an image of 28×28 pixels, got 3×3"):
        Pixels().apply(np.zeros((1, 3, 3), np.uint8))
    with pytest.raises(ClipError, match="expected token ids 0 to 9, got 3 to 10"):
        Tokens().apply(np.array([[3, 10]]))


SPECTRAL = pytest.mark.parametrize(
    "spec",
    [
        LogMel.at(16000),
        LogMel.at(16000, "kaldi"),
        LogMel.at(16000, "librosa"),
        Mfcc.at(16000, "kaldi", energy=False, lifter=0.0),
        LogMel.at(22050, "hifigan"),
    ],
    ids=lambda s: f"{s.front_end}-{s.kind}",
)


@SPECTRAL
def test_a_shift_by_a_hop_shifts_the_frames(spec: Any) -> None:
    hop = spec.analysis.hop_length
    clip = speech(1, 8000)
    inner = slice(5, 20)
    shifted = spec.apply(clip[:, hop:])[0, inner]
    np.testing.assert_allclose(shifted, spec.apply(clip)[0, 6:21], rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize(
    ("front_end", "step"), [("torchaudio", 20 * np.log10(2)), ("kaldi", 2 * np.log(2))]
)
def test_twice_the_level_is_the_same_step_everywhere(front_end: str, step: float) -> None:
    spec = LogMel.at(16000, front_end)
    clip = speech(1, 8000) + 0.01 * RNG.standard_normal((1, 8000)).astype(np.float32)
    quiet, loud = spec.apply(clip), spec.apply(2 * clip)
    np.testing.assert_allclose(loud - quiet, step, atol=2e-3)


def test_a_longer_clip_begins_with_the_frames_of_the_shorter() -> None:
    spec = LogMel.at(16000, "kaldi")
    clip = speech(1, 16000)
    short = spec.apply(clip[:, :8000])
    np.testing.assert_array_equal(spec.apply(clip)[:, : short.shape[1]], short)


def test_float16_keeps_11_bits() -> None:
    clip = speech(2, 8000)
    whole = LogMel.at(16000).apply(clip)
    half = LogMel.at(16000, dtype="float16").apply(clip)
    assert half.dtype == np.float16
    np.testing.assert_allclose(half.astype(np.float32), whole, rtol=2.0**-11)


def test_float16_refuses_what_it_can_not_hold() -> None:
    loud = Spectrogram.at(16000, "kaldi", dtype="float16")
    with pytest.raises(ClipError, match="is more than float16 holds"):
        loud.apply(speech(1, 8000))


def test_normalised_clips_have_mean_0_and_variance_1() -> None:
    values = LogMel.at(16000, normalize="mean_variance").apply(speech(2, 16000))
    np.testing.assert_allclose(values.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(values.std(axis=1), 1, atol=1e-3)
    silent = LogMel.at(16000, normalize="mean_variance").apply(np.zeros((1, 8000), np.float32))
    assert not silent.any()


def test_nan_and_infinite_samples_are_reported() -> None:
    for bad in (np.nan, np.inf):
        clip = speech(1, 8000)
        clip[0, 4000] = bad
        for spec in (LogMel.at(16000), Mfcc.at(16000, "kaldi"), Spectrogram.at(16000)):
            with pytest.raises(ClipError, match="NaN or infinite"):
                spec.apply(clip)


@pytest.mark.parametrize("front_end", ["torchaudio", "librosa", "kaldi", "whisper"])
def test_empty_clips_and_one_frame_have_a_stated_answer(front_end: str) -> None:
    spec = LogMel.at(16000, front_end)
    with pytest.raises(ClipError, match="0 samples are too few"):
        spec.apply(np.zeros((1, 0), np.float32))
    shortest = spec.analysis.shortest
    values = spec.apply(speech(1, shortest))
    assert values.shape[1:] == spec.shape(shortest)
    assert np.isfinite(values).all()
    with pytest.raises(FeatureError, match="expected at least"):
        spec.shape(shortest - 1)


@pytest.mark.parametrize("front_end", ["torchaudio", "librosa", "kaldi", "whisper"])
@pytest.mark.parametrize("options", [{}, {"drop_last": True}, {"hop_length": 399}])
def test_the_shortest_clip_gives_a_frame(front_end: str, options: dict[str, Any]) -> None:
    spec = LogMel.at(16000, front_end, **options)
    shortest = spec.analysis.shortest
    assert spec.apply(speech(1, shortest)).shape[1] >= 1
    assert shortest == 1 or spec.analysis.frames(shortest - 1) < 1 or spec.analysis.pad
