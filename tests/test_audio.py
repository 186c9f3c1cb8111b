"""Decoding, resampling and lengths, held against soundfile and known signals."""

import io
import struct
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.audio import (
    Audio,
    condition,
    decode,
    fix_length,
    load_audio,
    mono,
    resample,
    wav_duration,
)
from pipeline.errors import ClipError, UsageError
from pipeline.records import Piece
from tests.golden.cases import formula

RNG = np.random.default_rng(5)


def encode(samples: np.ndarray, rate: int, form: str, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


FMT = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)
DATA = np.array([0, 1, -1, 32767, -32768], "<i2").tobytes()


@pytest.mark.parametrize(
    ("form", "subtype", "error"),
    [
        ("WAV", "PCM_16", 0.0),
        ("WAV", "PCM_24", 0.0),
        ("WAV", "PCM_U8", 0.0),
        ("WAV", "PCM_32", 0.0),
        ("WAV", "FLOAT", 0.0),
        ("WAV", "DOUBLE", 0.0),
        ("WAV", "ULAW", 0.0),
        ("WAVEX", "PCM_16", 0.0),
        ("WAVEX", "PCM_24", 0.0),
        ("WAVEX", "FLOAT", 0.0),
        ("FLAC", "PCM_16", 0.0),
        ("AIFF", "PCM_16", 0.0),
        ("OGG", "VORBIS", 0.2),
        ("OGG", "OPUS", 0.2),
        ("MP3", "MPEG_LAYER_III", 0.2),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_formats_decode_as_soundfile_decodes_them(
    form: str, subtype: str, error: float, channels: int
) -> None:
    t = np.arange(16000) / 16000
    tone = np.stack([0.5 * np.sin(2 * np.pi * (440 + 220 * c) * t) for c in range(channels)], 1)
    data = encode(tone, 16000, form, subtype)
    decoded = decode(memoryview(data))
    samples, rate = decoded.samples, decoded.rate
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    assert rate == 16000
    assert samples.dtype == np.float32
    # libvorbis rounds anew after the seek that tells its length: one unit of the last place.
    np.testing.assert_allclose(samples, expected, atol=2e-7 if error else 0)
    if not error:
        np.testing.assert_allclose(samples, tone, atol=1 / 50)


@pytest.mark.parametrize(
    "data",
    [
        riff(chunk(b"fmt ", FMT), chunk(b"data", DATA)),
        riff(chunk(b"LIST", b"abc"), chunk(b"fmt ", FMT), chunk(b"data", DATA)),
        riff(chunk(b"fmt ", FMT + b"\0\0"), chunk(b"fact", b"1234"), chunk(b"data", DATA)),
        riff(chunk(b"fmt ", FMT), chunk(b"data", DATA), chunk(b"LIST", b"tail")),
        riff(chunk(b"data", DATA), chunk(b"LIST", b"between"), chunk(b"fmt ", FMT)),
    ],
    ids=["plain", "a chunk before", "longer fmt and fact", "a chunk after", "data first"],
)
def test_wav_chunks_may_stand_in_any_company(data: bytes) -> None:
    decoded = decode(data)
    assert (decoded.rate, decoded.missing) == (16000, 0)
    np.testing.assert_array_equal(decoded.samples[:, 0] * 32768, [0, 1, -1, 32767, -32768])


def test_a_data_chunk_that_claims_too_much_is_read_as_far_as_it_goes() -> None:
    whole = riff(chunk(b"fmt ", FMT), chunk(b"data", DATA * 100))
    for lost in (300, 301):
        decoded = decode(whole[:-lost])
        assert len(decoded.samples) == (len(DATA) * 100 - lost) // 2
        assert decoded.missing == lost


def test_who_writes_to_a_pipe_does_not_know_the_size() -> None:
    data = riff(chunk(b"fmt ", FMT), b"data" + struct.pack("<I", 0xFFFFFFFF) + DATA)
    assert len(decode(data).samples) == 5
    assert decode(data).missing == 0


WORD = 0.5 * np.sin(np.arange(1000) / 3)


@pytest.mark.parametrize(
    ("samples", "lost", "warnings"),
    [
        (WORD, 0, []),
        (WORD, 100, ["truncated: the header promises more than there is"]),
        (WORD * 1e-3, 0, ["silent: its peak is -66 dB of full scale"]),
        (WORD * 0, 0, ["silent: its peak is -200 dB of full scale"]),
        (
            np.clip(WORD * 4, -1, 32767 / 32768),
            0,
            ["clipped: 66.6% of its samples are at full scale"],
        ),
        (np.append(WORD, 1), 0, []),
    ],
    ids=["a word", "truncated", "quiet", "silence", "clipped", "one full sample"],
)
def test_odd_clips_are_taken_with_a_warning(
    samples: np.ndarray, lost: int, warnings: list[str]
) -> None:
    data = encode(samples, 16000, "WAV", "FLOAT" if samples.max() < 1e-2 else "PCM_16")
    piece = Piece(memoryview(data)[: len(data) - lost])
    assert load_audio([piece], Audio(16000)).size
    assert piece.warnings == warnings


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        b"not audio at all, but long enough to look at",
        riff(chunk(b"fmt ", FMT)),
        riff(chunk(b"data", DATA)),
        riff(chunk(b"fmt ", struct.pack("<HHIIHH", 1, 0, 16000, 0, 0, 16)), chunk(b"data", DATA)),
    ],
    ids=["empty", "four bytes", "text", "no data", "no fmt", "no channels"],
)
def test_what_is_not_audio_is_one_clear_line(data: bytes) -> None:
    with pytest.raises(ClipError, match="not readable as audio") as caught:
        decode(data)
    assert "\n" not in str(caught.value)


def test_mono_is_the_mean_of_the_channels() -> None:
    stereo = RNG.uniform(-1, 1, (100, 2)).astype(np.float32)
    np.testing.assert_allclose(mono(stereo), stereo.mean(axis=1), atol=1e-7)
    assert mono(stereo[:, :1]).shape == (100,)


@pytest.mark.parametrize(("rate", "wanted"), [(8000, 16000), (22050, 16000), (44100, 16000)])
def test_resampling_keeps_a_tone_and_its_length(rate: int, wanted: int) -> None:
    seconds = 1.0
    tone = np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate).astype(np.float32)
    resampled = resample(tone, rate, wanted)
    assert abs(len(resampled) - wanted * seconds) <= 1
    expected = np.sin(2 * np.pi * 440 * np.arange(len(resampled)) / wanted)
    inner = slice(wanted // 10, -wanted // 10)
    np.testing.assert_allclose(resampled[inner], expected[inner], atol=1e-3)


def test_lengths_are_padded_and_cut_at_the_end() -> None:
    clip = np.arange(1, 5, dtype=np.float32)
    np.testing.assert_array_equal(fix_length(clip, 6), [1, 2, 3, 4, 0, 0])
    np.testing.assert_array_equal(fix_length(clip, 2), [1, 2])
    assert wav_duration(44 + 32000, 16000) == 1.0
    assert wav_duration(10, 16000) == 0.0


def test_pieces_are_cut_and_joined() -> None:
    data = memoryview(riff(chunk(b"fmt ", FMT), chunk(b"data", DATA)))
    pieces = [Piece(data, 1, 3), Piece(data, 3, None)]
    samples = load_audio(pieces, Audio(16000))
    np.testing.assert_array_equal(samples * 32768, [1, -1, 32767, -32768])
    assert load_audio(pieces, Audio(16000, duration=0.001)).shape == (16,)


def test_empty_and_not_finite_clips_are_refused() -> None:
    nothing = memoryview(riff(chunk(b"fmt ", FMT), chunk(b"data", b"")))
    with pytest.raises(ClipError, match="holds no samples"):
        load_audio([Piece(nothing)], Audio(16000))
    bad = encode(np.array([0.0, np.nan, 0.0]), 16000, "WAV", "FLOAT")
    with pytest.raises(ClipError, match="NaN or infinite"):
        load_audio([Piece(memoryview(bad))], Audio(16000))


def test_options_that_make_no_sense_are_named() -> None:
    with pytest.raises(UsageError, match="sample_rate=0"):
        Audio(0)
    with pytest.raises(UsageError, match=r"duration=1e-09"):
        Audio(16000, duration=1e-9)


def clip_of(seconds: float = 1.0, rate: int = 16000) -> np.ndarray:
    """Silence, a tone, silence, over faint noise."""
    n = int(seconds * rate)
    t = np.arange(n) / rate
    inside = (t > 0.3 * seconds) & (t < 0.7 * seconds)
    noise = 1e-4 * RNG.standard_normal(n)
    return (0.25 * inside * np.sin(2 * np.pi * 440 * t) + noise).astype(np.float32)


def test_trimming_is_librosas() -> None:
    import librosa

    clip = clip_of()
    expected, _ = librosa.effects.trim(clip, top_db=30)
    trimmed = condition(clip, Audio(16000, trim_db=30.0))
    np.testing.assert_array_equal(trimmed, expected)
    assert len(trimmed) < 0.7 * len(clip)
    silent = np.zeros(1000, np.float32)
    assert len(condition(silent, Audio(16000, trim_db=30.0))) == 1000


def test_levels_are_what_was_asked() -> None:
    clip = clip_of()
    peak = condition(clip, Audio(16000, peak_db=-6.0))
    assert np.abs(peak).max() == pytest.approx(10 ** (-6 / 20), rel=1e-6)
    rms = condition(clip, Audio(16000, rms_db=-20.0))
    assert np.sqrt(np.mean(rms.astype(np.float64) ** 2)) == pytest.approx(0.1, rel=1e-5)
    for hush in (0.0, 1e-42):
        nothing = np.full(10, hush, np.float32)
        for audio in (Audio(16000, peak_db=0.0), Audio(16000, rms_db=-20.0)):
            np.testing.assert_array_equal(condition(nothing, audio), nothing)
    huge = np.full(10, 1e20, np.float32)
    np.testing.assert_allclose(condition(huge, Audio(16000, rms_db=0.0)), 1, rtol=1e-5)


def test_denoising_takes_noise_away_and_leaves_the_signal() -> None:
    clean = np.concatenate([np.zeros(3000), formula(16000) / 32768, np.zeros(3000)])
    noisy = (clean + clean.std() * RNG.standard_normal(len(clean))).astype(np.float32)
    cleaned = condition(noisy, Audio(16000, denoise=1.0))
    assert cleaned.dtype == np.float32
    gained = 10 * np.log10(np.square(noisy - clean).sum() / np.square(cleaned - clean).sum())
    assert gained > 3  # dB
    half = condition(noisy, Audio(16000, denoise=0.5))
    assert cleaned[:2000].std() < half[:2000].std() < noisy[:2000].std()
    np.testing.assert_array_equal(cleaned, condition(noisy, Audio(16000, denoise=1.0)))
    assert not condition(np.zeros(4000, np.float32), Audio(16000, denoise=1.0)).any()
    with pytest.raises(ClipError, match="2047 samples are too few to denoise"):
        condition(noisy[:2047], Audio(16000, denoise=1.0))
    assert np.isfinite(condition(noisy[:2048], Audio(16000, denoise=1.0))).all()


def test_preemphasis_is_torchaudios(torchaudio: ModuleType) -> None:
    clip = clip_of()
    ours = condition(clip, Audio(16000, preemphasis=0.97))
    theirs = torchaudio.functional.preemphasis(torch.from_numpy(clip)).numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-7)


def test_places_of_cut_and_padded_clips() -> None:
    clip = np.arange(1, 6, dtype=np.float32)
    np.testing.assert_array_equal(fix_length(clip, 3, "centre"), [2, 3, 4])
    np.testing.assert_array_equal(fix_length(clip, 8, "centre"), [0, 1, 2, 3, 4, 5, 0, 0])
    starts = {fix_length(clip + i, 3, "random", 1)[0] - i for i in range(50)}
    assert starts == {1, 2, 3}
    for length in (3, 8):
        first = fix_length(clip, length, "random", 1)
        np.testing.assert_array_equal(first, fix_length(clip, length, "random", 1))
    others = [fix_length(clip, 100, "random", seed).argmax() for seed in range(20)]
    assert len(set(others)) > 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trim_db": -1.0}, "trim_db=-1.0: expected a number of dB"),
        ({"denoise": 2.0}, "denoise=2.0: expected 0 to 1"),
        ({"preemphasis": float("nan")}, "preemphasis=nan: expected 0 to 1"),
        ({"peak_db": 3.0}, "peak_db=3.0: expected -200 to 0 dB"),
        ({"rms_db": -20.0, "peak_db": -3.0}, "rms_db=-20.0: expected none beside peak_db"),
        ({"duration": float("inf")}, "duration=inf: expected one sample to"),
        ({"duration": float("nan")}, "duration=nan: expected one sample to"),
        ({"fit": "end"}, "fit=end: expected one of start, centre, random"),
        ({"fit_seed": -1}, "fit_seed=-1: expected 0 or more"),
    ],
)
def test_audio_options_that_make_no_sense_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=f"audio: {message}"):
        Audio(16000, **options)


def test_headers_that_lie_are_bad_clips() -> None:
    slow = riff(chunk(b"fmt ", struct.pack("<HHIIHH", 1, 1, 1, 2, 2, 16)), chunk(b"data", DATA))
    with pytest.raises(ClipError, match="claims a sample rate of 1 Hz"):
        load_audio([Piece(memoryview(slow))], Audio(16000))
    flac = bytearray(encode(np.zeros(1000), 16000, "FLAC", "PCM_16"))
    flac[21:26] = bytes([flac[21] | 0x0F, 0xFF, 0xFF, 0xFF, 0xFF])  # total samples: 2^36 - 1
    with pytest.raises(ClipError, match=r"its header claims 68,719,476,735 samples"):
        load_audio([Piece(memoryview(bytes(flac)))], Audio(16000))


@given(data=st.binary(max_size=200), place=st.integers(0, 60), value=st.integers(0, 255))
@settings(max_examples=300)
def test_no_bytes_are_more_than_a_bad_clip(data: bytes, place: int, value: int) -> None:
    """Any bytes, and a good header with any one byte changed: samples, or one clear line."""
    changed = bytearray(riff(chunk(b"fmt ", FMT), chunk(b"data", DATA)))
    changed[place % len(changed)] = value
    for attempt in (data, riff(chunk(b"fmt ", data[:40]), chunk(b"data", data[40:])), changed):
        reason, samples = "", np.zeros(0, np.float32)
        try:
            samples = load_audio([Piece(memoryview(bytes(attempt)))], Audio(16000))
        except ClipError as error:
            reason = str(error)
        assert "\n" not in reason
        assert samples.dtype == np.float32
        assert np.isfinite(samples).all()
