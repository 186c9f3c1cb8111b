"""Decoding, resampling and lengths, held against soundfile and known signals."""

import io
import struct

import numpy as np
import pytest
import soundfile

from pipeline.audio import Audio, decode, fix_length, load_audio, mono, resample, wav_duration
from pipeline.errors import ClipError, UsageError
from pipeline.records import Piece

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
        ("WAV", "FLOAT", 0.0),
        ("FLAC", "PCM_16", 0.0),
        ("AIFF", "PCM_16", 0.0),
        ("OGG", "VORBIS", 0.2),
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
    samples, rate = decode(memoryview(data))
    expected, _ = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    assert rate == 16000
    assert samples.dtype == np.float32
    # libvorbis rounds anew after the seek that tells its length: one unit of the last place.
    np.testing.assert_allclose(samples, expected, atol=2e-7 if error else 0)
    if not error:
        np.testing.assert_allclose(samples, tone, atol=1 / 100)


@pytest.mark.parametrize(
    "data",
    [
        riff(chunk(b"fmt ", FMT), chunk(b"data", DATA)),
        riff(chunk(b"LIST", b"abc"), chunk(b"fmt ", FMT), chunk(b"data", DATA)),
        riff(chunk(b"fmt ", FMT + b"\0\0"), chunk(b"fact", b"1234"), chunk(b"data", DATA)),
        riff(chunk(b"fmt ", FMT), chunk(b"data", DATA), chunk(b"LIST", b"tail")),
    ],
    ids=["plain", "a chunk before", "longer fmt and fact", "a chunk after"],
)
def test_wav_chunks_may_stand_in_any_company(data: bytes) -> None:
    samples, rate = decode(data)
    assert rate == 16000
    np.testing.assert_array_equal(samples[:, 0] * 32768, [0, 1, -1, 32767, -32768])


def test_a_data_chunk_that_claims_too_much_is_read_as_far_as_it_goes() -> None:
    whole = riff(chunk(b"fmt ", FMT), chunk(b"data", DATA * 100))
    samples, _ = decode(whole[:-300])
    assert len(samples) == (len(DATA) * 100 - 300) // 2


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
        Audio(16000, 1e-9)
