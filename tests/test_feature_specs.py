"""Definitions of features: read, checked and stored; each mistake is named."""

import dataclasses

import numpy as np
import pytest

from pipeline.errors import FeatureError, UsageError
from pipeline.features import LogMel, Mfcc, Tokens, canonical, from_dict, parse, to_dict
from pipeline.features.scale import Log
from tests.other_tools import speech


@pytest.mark.parametrize(
    ("rate", "windows"),
    [(8000, (200, 200, 80)), (16000, (400, 400, 160)), (22050, (576, 551, 220))],
)
def test_the_usual_windows(rate: int, windows: tuple[int, int, int]) -> None:
    analysis = Mfcc.at(rate).analysis
    assert (analysis.n_fft, analysis.win_length, analysis.hop_length) == windows


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


def test_values_of_the_wrong_type_are_refused() -> None:
    good = to_dict(LogMel.at(16000))
    for change in ({"n_mels": "64"}, {"n_mels": True}, {"floor": None}, {"gain": 10**400}):
        with pytest.raises(FeatureError, match="expected"):
            from_dict(good | change)
    with pytest.raises(FeatureError, match="expected the fields"):
        from_dict(good | {"extra": 1})


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
