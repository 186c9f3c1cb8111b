"""Features: equal to torchaudio, and a contract that every kind keeps."""

import dataclasses
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hatch_build import REALS, compile_library
from pipeline.compiled import compiled
from pipeline.errors import ClipError, FeatureError, UsageError
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
    canonical,
    from_dict,
    kernel,
    parse,
    to_dict,
)
from pipeline.features.analysis import Analysis, window
from pipeline.features.mel import MelBank
from pipeline.features.scale import Log

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


def kaldi_reference(spec: Any, clip: np.ndarray) -> np.ndarray:
    """One clip's features as kaldi-native-fbank computes them."""
    import kaldi_native_fbank

    kind = "Mfcc" if isinstance(spec, Mfcc) else "Fbank"
    options = getattr(kaldi_native_fbank, f"{kind}Options")()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = spec.sample_rate
    options.mel_opts.num_bins = spec.bank.n_mels
    options.use_energy = spec.energy
    if isinstance(spec, Mfcc):
        options.num_ceps = spec.n_mfcc
    online = getattr(kaldi_native_fbank, f"Online{kind}")(options)
    online.accept_waveform(spec.sample_rate, (clip * 32768).tolist())
    online.input_finished()
    return np.stack([online.get_frame(i) for i in range(online.num_frames_ready)])


def librosa_reference(spec: Any, clip: np.ndarray) -> np.ndarray:
    """One clip's features as librosa.feature computes them."""
    import librosa

    own = spec.analysis
    stft = {"n_fft": own.n_fft, "win_length": own.win_length, "hop_length": own.hop_length}
    mel = librosa.feature.melspectrogram(
        y=clip, sr=spec.sample_rate, n_mels=spec.bank.n_mels, **stft
    )
    decibels = librosa.power_to_db(mel)
    if isinstance(spec, Mfcc):
        return librosa.feature.mfcc(S=decibels, n_mfcc=spec.n_mfcc).T
    return decibels.T


def torchaudio_reference(spec: Any, clip: np.ndarray) -> np.ndarray:
    """One clip's features as torchaudio.transforms computes them, (frames, bins)."""
    import torchaudio

    own = spec.analysis
    stft = {"n_fft": own.n_fft, "win_length": own.win_length, "hop_length": own.hop_length}
    transforms = torchaudio.transforms
    decibels = transforms.AmplitudeToDB("power", spec.log.top)
    if isinstance(spec, Spectrogram):
        power = 1.0 if own.magnitude else 2.0
        values = transforms.Spectrogram(power=power, **stft)(torch.from_numpy(clip))
        values = decibels(values) if spec.values == "log" else values
    else:
        bank = spec.bank
        mel = {"n_mels": bank.n_mels, "f_min": bank.f_min, "f_max": bank.f_max, **stft}
        if isinstance(spec, Mfcc):
            made = transforms.MFCC(spec.sample_rate, spec.n_mfcc, melkwargs=mel)
            values = made(torch.from_numpy(clip))
        else:
            made = transforms.MelSpectrogram(spec.sample_rate, **mel)
            values = decibels(made(torch.from_numpy(clip)))
    if spec.finish.deltas:
        compute = torchaudio.functional.compute_deltas
        parts = [values]
        for _ in range(spec.finish.deltas):
            parts.append(compute(parts[-1]))
        values = torch.cat(parts)
    return values.T.numpy()


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


@pytest.mark.parametrize(
    ("rate", "windows"),
    [(8000, (200, 200, 80)), (16000, (400, 400, 160)), (22050, (576, 551, 220))],
)
def test_the_usual_windows(rate: int, windows: tuple[int, int, int]) -> None:
    analysis = Mfcc.at(rate).analysis
    assert (analysis.n_fft, analysis.win_length, analysis.hop_length) == windows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mfcc:n_fft=200", "n_fft=200: expected win_length=400 or more"),
        ("mfcc:n_mfcc=65", "n_mfcc=65: expected 1 to n_mels=64"),
        ("mfcc:n_mfcc=0", "n_mfcc=0: expected 1 to"),
        ("mfcc:lifter=-1", "lifter=-1.0: expected 0 (none), or 1 and more"),
        ("mfcc:n_fft=401", "n_fft=401: expected even"),
        ("log_mel:n_fft=131072,n_mels=1024", "n_mels=1024: too many filters"),
        ("spectrogram:magnitude=true,values=log", "values=log,base=db: expected magnitude=false"),
        ("log_mel:hop_length=0", "hop_length=0: expected 1 to"),
        ("log_mel:win_length=0", "win_length=0: expected at least 2 samples"),
        ("log_mel:preemphasis=2", "preemphasis=2.0: expected 0 to 1"),
        ("log_mel:dither=-1", "dither=-1.0: expected 0 to 1e6"),
        ("log_mel:gain=0", "gain=0.0: expected 1e-6 to 1e6"),
        ("log_mel:window=kaiser", "window=kaiser: expected one of hann, povey"),
        ("log_mel:edges=round", "edges=round: expected one of reflect, zeros, same, snip"),
        ("log_mel:edges=same,hop_length=161", "hop_length=161: with edges=same expected n_fft"),
        ("log_mel:f_max=8001", "f_max=8001.0: expected at most 8000.0 Hz"),
        ("log_mel:f_min=9000", "f_min=9000.0: expected 0 to below f_max=8000.0"),
        ("log_mel:n_mels=128", "n_mels=128: "),
        ("log_mel:n_mels=0", "n_mels=0: expected 1 to 1024"),
        ("log_mel:scale=bark", "scale=bark: expected one of htk, slaney"),
        ("log_mel:top=-1", "top=-1.0: expected a positive range"),
        ("log_mel:floor=0", "floor=0.0: expected 1e-37"),
        ("log_mel:floor=1e-50", "floor=1e-50: expected 1e-37"),
        ("log_mel:base=e", "base=e: expected one of db, ln, log10"),
        ("log_mel:deltas=3", "deltas=3: expected one of 0, 1, 2"),
        ("log_mel:normalize=max", "normalize=max: expected one of none, mean"),
        ("log_mel:dtype=float64", "dtype=float64: expected one of float32, float16"),
        ("log_mel@hifigan", "front end hifigan: defined for 22050 Hz, got 16000; resample"),
        ("spectrogram:values=phase", "values=phase: expected one of linear, log"),
        ("waveform:dtype=int8", "dtype=int8: expected one of int16, float32"),
    ],
)
def test_parameters_that_make_no_sense_are_named(text: str, message: str) -> None:
    with pytest.raises(FeatureError) as caught:
        parse(text, 16000)
    kind = text.partition(":")[0].partition("@")[0]
    assert str(caught.value).startswith(f"features {kind}: {message}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mffc", "unknown feature 'mffc': expected one of mfcc, "),
        ("mfcc:mels=3", "unknown option of features mfcc 'mels': expected one of n_mels"),
        ("mfcc:n_mels=many", "features mfcc: n_mels: expected a whole number, got 'many'"),
        ("mfcc:n_mels", "features mfcc: n_mels: expected a whole number, got ''"),
        ("mfcc:energy=1", "features mfcc: energy: expected true or false, got '1'"),
        ("mfcc:sample_rate=8000", "unknown option of features mfcc 'sample_rate'"),
        ("mfcc@sphinx", "unknown front end 'sphinx': expected one of hifigan, kaldi"),
        ("tokens@kaldi", "features 'tokens@kaldi': tokens has no front ends"),
    ],
)
def test_specs_that_can_not_be_read_are_named(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(text, 16000)
    assert str(caught.value).startswith(message)


def test_specs_are_read() -> None:
    assert parse("mfcc", 16000) == Mfcc.at(16000)
    read = parse("log_mel@torchaudio:n_mels=40,f_max=none,top=60,deltas=1", 22050)
    assert read == LogMel.at(22050, n_mels=40, top=60.0, deltas=1)
    assert parse("mfcc@kaldi:dither=1,dither_seed=3", 16000).apply(speech(1, 800)).shape == (
        1,
        3,
        13,
    )
    assert parse("tokens:vocabulary=30", None) == Tokens(30)
    with pytest.raises(FeatureError, match="needs audio"):
        parse("mfcc", None)


def test_values_of_the_wrong_type_are_refused() -> None:
    good = to_dict(LogMel.at(16000))
    for change in ({"n_mels": "64"}, {"n_mels": True}, {"floor": None}, {"gain": 10**400}):
        with pytest.raises(FeatureError, match="expected"):
            from_dict(good | change)
    with pytest.raises(FeatureError, match="expected the fields"):
        from_dict(good | {"extra": 1})


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


@pytest.mark.parametrize("n_fft", [4, 6, 30, 32, 90, 400, 486, 500, 512, 576, 1000, 1024, 2048])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("level", ["any", "v3", "v4"])
def test_the_kernel_transforms_any_product_of_2_3_and_5(
    n_fft: int, precision: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysis = Analysis(n_fft, max(2, n_fft - 1), max(1, n_fft // 3), precision=precision)
    source = Path(kernel.__file__).with_name("kernel.c")
    library = kernel._declared(compiled(source, f"_kernel_{precision}_{level}"))
    if library is None or library.level() < {"any": 0, "v3": 3, "v4": 4}[level]:
        pytest.skip("no such kernel here")
    monkeypatch.setattr(kernel, "_library", lambda precision: library)
    clip = speech(2, 5 * n_fft)
    found = kernel.spectra(clip, analysis, 16000, None).values
    whole = np.pad(clip.astype(np.float64), ((0, 0), (n_fft // 2, n_fft // 2)), mode="reflect")
    weights = np.zeros(n_fft)
    weights[analysis.first : analysis.first + n_fft - 1] = window("hann", max(2, n_fft - 1))
    for t in range(found.shape[1]):
        start = t * analysis.hop_length
        exact = np.abs(np.fft.rfft(whole[:, start : start + n_fft] * weights)) ** 2
        bound = (1e-5 if precision == "float32" else 1e-12) * max(exact.max(), 1e-9)
        np.testing.assert_allclose(found[:, t], exact, atol=bound)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("lanes", [8, 16])
def test_the_kernel_agrees_with_scipy_for_any_number_of_frames_and_filters(
    lanes: int, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled for any processor: this one may have no use for so many lanes."""
    source = tmp_path / "kernel.c"
    shutil.copy(Path(kernel.__file__).with_name("kernel.c"), source)
    given = [f"-DLANES={lanes}", f"-DREAL={REALS[precision]}"]
    if compile_library(source, "_kernel", given) is None:
        pytest.skip("no compiler here")
    library = kernel._declared(compiled(source, "_kernel"))
    assert library is not None
    analysis = Analysis(
        512, 401, 100, edges="snip", preemphasis=0.97, remove_dc=True, precision=precision
    )
    for frames in (1, 7, 8, 9, 15, 16, 17, 33):
        clips = speech(2, 401 + 100 * (frames - 1))
        for bank in (None, MelBank(1), MelBank(13), MelBank(40)):
            found = []
            for way in (library, None):
                with monkeypatch.context() as patch:
                    patch.setattr(kernel, "_library", lambda precision, way=way: way)
                    kernel._plan.cache_clear()
                    found.append(kernel.spectra(clips, analysis, 16000, bank, energies=True))
            ours, theirs = found
            for own, other in ((ours.values, theirs.values), (ours.energies, theirs.energies)):
                assert own is not None
                assert other is not None
                assert own.shape[:2] == (2, frames)
                bound = (1e-5 if precision == "float32" else 1e-12) * max(other.max(), 1e-9)
                np.testing.assert_allclose(own, other, rtol=1e-4, atol=bound)
    kernel._plan.cache_clear()


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


@pytest.mark.parametrize("kind", [LogMel, Mfcc])
def test_options_may_make_a_front_end_fit_a_rate(kind: type[LogMel | Mfcc]) -> None:
    with pytest.raises(FeatureError, match=r"n_mels=64: .* would hold no FFT bin"):
        kind.at(4000)
    more = {"n_mfcc": 13} if kind is Mfcc else {}
    for front_end in ("torchaudio", "kaldi"):
        values = kind.at(4000, front_end, n_mels=20, **more).apply(speech(1, 4000))
        assert np.isfinite(values).all()


def test_equal_definitions_are_stored_alike() -> None:
    """Whole numbers for floats and NumPy's numbers become the field's own type."""
    plain = to_dict(LogMel.at(16000, top=80.0, n_mels=40))
    assert to_dict(LogMel.at(16000, top=80, n_mels=np.int64(40))) == plain
    assert (
        to_dict(canonical(dataclasses.replace(LogMel.at(16000, n_mels=40), log=Log(top=80))))
        == plain
    )
    assert repr(to_dict(canonical(LogMel.at(16000, top=80)))["top"]) == "80.0"
    for wrong in ({"energy": 0}, {"deltas": True}, {"n_mels": 40.0}, {"hop_length": 160.5}):
        with pytest.raises(UsageError, match="expected"):
            LogMel.at(16000, **wrong)


def test_float16_refuses_what_it_can_not_hold() -> None:
    loud = Spectrogram.at(16000, "kaldi", dtype="float16")
    with pytest.raises(ClipError, match="is more than float16 holds"):
        loud.apply(speech(1, 8000))


@pytest.mark.parametrize("front_end", ["torchaudio", "librosa", "kaldi", "whisper"])
@pytest.mark.parametrize("options", [{}, {"drop_last": True}, {"hop_length": 399}])
def test_the_shortest_clip_gives_a_frame(front_end: str, options: dict[str, Any]) -> None:
    spec = LogMel.at(16000, front_end, **options)
    shortest = spec.analysis.shortest
    assert spec.apply(speech(1, shortest)).shape[1] >= 1
    assert shortest == 1 or spec.analysis.frames(shortest - 1) < 1 or spec.analysis.pad


def test_a_stale_kernel_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library of another source is told by its number, one without a number by its absence."""
    if kernel._library("float32") is None:
        pytest.skip("no compiled kernel here")
    folder = tmp_path / "features"
    shutil.copytree(Path(kernel.__file__).parent, folder)
    source = folder / "kernel.c"
    source.write_text(source.read_text() + "/* a later version */")
    monkeypatch.setattr(kernel, "__file__", str(folder / "kernel.py"))
    assert kernel._library.__wrapped__("float32") is None
