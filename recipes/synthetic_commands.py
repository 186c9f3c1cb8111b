"""Synthetic speech corpora, spoken by espeak-ng: small, offline, same arguments, same bytes.

``write_commands`` lays an archive out as Google Speech Commands v0.01, ``write_phrases`` as
LJSpeech 1.1. The voice is espeak-ng 1.52 as the wheel ``espeakng-loader`` ships it, driven through
its C API (``speak_lib.h``, ``espeak_ng.h`` of https://github.com/espeak-ng/espeak-ng). espeak-ng is
GPL-3.0-or-later: an optional extra, loaded at run time, no part of this package. The bytes are
stable for one set of versions of espeakng-loader, NumPy, soxr and zlib.
"""

import bz2
import contextlib
import ctypes
import gzip
import importlib
import io
import os
import tarfile
import wave
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr

from pipeline.audio import Audio, load_audio
from pipeline.errors import RecipeError
from pipeline.recipe import Corpus, Recipe, load_recipe
from pipeline.records import Example

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
COMMAND_RATE, SPEECH_RATE = 16_000, 22_050  # Hz; the second is espeak-ng's own and LJSpeech's
# espeak_SetVoiceByName knows no "en-gb": "en" is the British voice.
ACCENTS = ("en", "en-029", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-rp", "en-us", "en-us-nyc")
# No robots, no whisper, no variant with "klatt 6" in its file (it draws from libc's global rand()).
WOMEN = ("Alicia", "Andrea", "Annie", "anika", "belinda", "f1", "f2", "f3", "f4", "f5", "steph")
MEN = ("Alex", "Andy", "Gene", "Marco", "Mike", "ed", "m1", "m2", "m3", "m4", "m5", "m7", "m8")
SPANS = ((120, 221), (30, 71), (20, 81))  # of a speaker's rate, pitch, pitch range; half open
NOISES = ("white", "pink", "hum")
GRID = (  # Cooke et al., JASA 120 (2006), but for the letter A, which would be read as an article
    ("Bin", "Lay", "Place", "Set"),
    ("blue", "green", "red", "white"),
    ("at", "by", "in", "with"),
    tuple("BCDEFGHIJKLMNOPQRSTUVXYZ"),
    ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    ("again", "now", "please", "soon"),
)
ABOUT = b"Synthetic speech: shardwell and espeak-ng made it. No rights are claimed (CC0-1.0).\n"

Samples = npt.NDArray[np.float64]  # (n,), so that the last bits of a sum never reach the 16 kept
Content = bytes | Callable[[], bytes]  # of an archive member: now, or made in its turn

_COLLECTOR = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_SYNCHRONOUS, _DONT_EXIT, _CHARACTERS, _UTF8 = 2, 0x8000, 1, 1  # constants of speak_lib.h


@dataclass(frozen=True)
class Voice:
    """What espeak-ng is told before it speaks."""

    name: str  # language or accent, "+", variant: "en-us+f3"
    rate: int = 175  # words per minute, 80..450
    pitch: int = 50  # 0..99, around the variant's own
    pitch_range: int = 50  # 0..99; 0 is monotone


def speak(text: str, voice: Voice) -> npt.NDArray[np.float32]:
    """The text, spoken: (n,) float32 in [-1, 1) at 22,050 Hz.

    A pure function of its arguments, whatever was spoken before (but for variants with "klatt 6");
    one thread at a time. Raises ``RecipeError`` where the voice or the library is missing.
    """
    try:
        loader = importlib.import_module("espeakng_loader")
    except ImportError as error:
        problem = "synthetic speech: espeakng-loader is missing"
        raise RecipeError(f"{problem}: install with: pip install 'shardwell[demo]'") from error
    library, data = loader.get_library_path(), Path(loader.get_data_path())
    # The library is loaded anew for each clip (3 ms): flutter, gain and cycle counts are static
    # variables that outlive a clip, a change of voice and even espeak_Terminate, and only unloading
    # resets them. Hence nobody else may hold it; RTLD_NOLOAD opens only what is there already.
    with contextlib.suppress(OSError):
        ctypes.CDLL(library, mode=os.RTLD_NOLOAD)
        raise RecipeError(f"{library}: already loaded by other code: use a fresh process")
    espeak = ctypes.CDLL(library)
    try:
        pcm = _synthesize(espeak, data, text, voice)
    finally:
        espeak.espeak_Terminate()
        ctypes.CDLL(None).dlclose(ctypes.c_void_p(espeak._handle))
    return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(32768)


def _synthesize(espeak: ctypes.CDLL, data: Path, text: str, voice: Voice) -> bytes:
    """16-bit PCM from a library that was just loaded."""
    variant = voice.name.partition("+")[2]
    # espeak-ng speaks an unknown variant in the plain voice and reports success.
    if variant and not (data / "voices" / "!v" / variant).is_file():
        raise RecipeError(f"voice {voice.name!r}: espeak-ng has no variant {variant!r}")
    chunks: list[bytes] = []

    def collect(samples: int | None, count: int, _events: int | None) -> int:
        chunks.append(ctypes.string_at(samples or 0, 2 * count))
        return 0  # go on

    callback = _COLLECTOR(collect)  # named, for it must live until espeak_Synth returns
    rate = espeak.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(data), _DONT_EXIT)
    if rate != SPEECH_RATE:
        raise RecipeError(f"espeak_Initialize: expected {SPEECH_RATE} Hz, got {rate}")
    espeak.espeak_SetSynthCallback(callback)
    espeak.espeak_ng_SetRandSeed(ctypes.c_long(1))  # the clock seeds its breath noise otherwise
    failed = espeak.espeak_SetVoiceByName(voice.name.encode())
    for parameter, value in ((1, voice.rate), (3, voice.pitch), (4, voice.pitch_range)):
        failed |= espeak.espeak_SetParameter(parameter, value, 0)  # espeakRATE, -PITCH, -RANGE
    raw = text.encode()  # its size, the 0 that follows, is not used in synchronous mode
    failed |= espeak.espeak_Synth(raw, 0, 0, _CHARACTERS, 0, _UTF8, None, None)
    if failed or espeak.espeak_Synchronize():
        raise RecipeError(f"espeak-ng: could not speak {text!r} as {voice}")
    return b"".join(chunks)


def write_commands(
    path: Path, *, words: Sequence[str], speakers: int, takes: int, seed: int
) -> None:
    """Write a tar.gz in the layout of Google Speech Commands v0.01 (arXiv:1804.03209).

    Every speaker says every word ``takes`` times: ``./<word>/<8 hex>_nohash_<take>.wav``, 16 kHz
    mono 16-bit, 1 s, every ninth clip or so 0.5 to 1 s. A speaker is a (voice name, rate, pitch);
    no two have the same three, and the hex digits are their CRC-32. Takes vary by ±8 % of rate and
    ±4 of pitch; peaks are -25..-3 dB of full scale; white, pink or hum noise is 5..40 dB below (by
    RMS). In a seeded order the first max(1, (speakers + 5) // 10) speakers are validation, the next
    max(1, (2 * speakers + 5) // 10) test, the rest train: 10 and 20 %, halves rounded up. More
    speakers, takes or words change no clip, only the splits.
    """
    plain = all(word.isascii() and word.isalpha() and word.islower() for word in words)
    if speakers < 3 or takes < 1 or seed < 0 or not words or not plain:
        wanted = "expected speakers >= 3, takes >= 1, seed >= 0 and words of a to z"
        raise RecipeError(f"{wanted}; got {speakers}, {takes}, {seed}, {list(words)}")
    voices = _speakers(speakers, seed)
    order = np.random.default_rng([seed, 1]).permutation(list(voices)).tolist()
    first, second = max(1, (speakers + 5) // 10), max(1, (2 * speakers + 5) // 10)
    members: dict[str, Content] = {"./": b"", "./LICENSE": ABOUT, "./README.md": ABOUT}
    members["./_background_noise_/"] = b""
    for index, kind in enumerate(NOISES):
        noise = _noise(kind, 5 * COMMAND_RATE, np.random.default_rng([seed, 2, index]))
        members[f"./_background_noise_/{kind}_noise.wav"] = _wav(noise, COMMAND_RATE, peak=-6)
    for split, names in (("validation", order[:first]), ("testing", order[first : first + second])):
        clips = [f"{w}/{n}_nohash_{t}.wav\n" for w in words for n in names for t in range(takes)]
        members[f"./{split}_list.txt"] = "".join(sorted(clips)).encode()
    for word, (index, name), take in product(words, enumerate(voices), range(takes)):
        clip = partial(_command, word, voices[name], (seed, 3, index, take, *word.encode()))
        members |= {f"./{word}/": b"", f"./{word}/{name}_nohash_{take}.wav": clip}
    # Level 1: noise hardly shrinks, and level 6 takes longer than all the rest.
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 1, raw, mtime=0) as stream:
        _write_tar(stream, members)


def _speakers(count: int, seed: int) -> dict[str, Voice]:
    """Distinct voices, by the 8 hex digits that follow from what makes them distinct."""
    rng = np.random.default_rng([seed, 0])
    voices: dict[str, Voice] = {}
    while len(voices) < count:
        name = f"{rng.choice(ACCENTS)}+{rng.choice((WOMEN, MEN)[rng.integers(2)])}"
        rate, pitch, pitch_range = (int(rng.integers(*span)) for span in SPANS)
        digits = f"{zlib.crc32(f'{name} {rate} {pitch}'.encode()):08x}"
        voices.setdefault(digits, Voice(name, rate, pitch, pitch_range))
    return voices


def _command(word: str, speaker: Voice, key: Sequence[int]) -> bytes:
    """One take as a WAV file; all that it draws comes from ``key``."""
    rng = np.random.default_rng(key)
    speech: Samples = soxr.resample(_say(word, speaker, rng), SPEECH_RATE, COMMAND_RATE, "VHQ")
    speech, size = speech[:COMMAND_RATE], COMMAND_RATE
    if rng.random() < 0.11:  # as often as in the real corpus
        size = int(rng.integers(max(speech.size, COMMAND_RATE // 2), COMMAND_RATE + 1))
    onset = int(rng.integers(size - speech.size + 1))
    mixed = _noise(str(rng.choice(NOISES)), size, rng)
    mixed *= speech.std() * 10 ** (-rng.uniform(5, 40) / 20)
    mixed[onset : onset + speech.size] += speech
    return _wav(mixed, COMMAND_RATE, peak=rng.uniform(-25, -3))


def _noise(kind: str, size: int, rng: np.random.Generator) -> Samples:
    """White, pink (1/f power above 20 Hz) or mains-hum noise at 16 kHz, of RMS 1."""
    samples: Samples = rng.standard_normal(size)
    if kind == "pink":
        frequencies = np.fft.rfftfreq(size, 1 / COMMAND_RATE)
        samples = np.fft.irfft(np.fft.rfft(samples) / np.sqrt(frequencies.clip(20)), size)
    if kind == "hum":
        phase = 2 * np.pi * rng.choice((50, 60)) / COMMAND_RATE * np.arange(size)
        harmonics = [np.sin(h * phase + rng.uniform(0, 2 * np.pi)) / h for h in (1, 2, 3, 5, 7)]
        samples = 0.1 * samples + np.sum(harmonics, axis=0)
    samples /= samples.std()
    return samples


def write_phrases(path: Path, *, clips: int, seed: int) -> None:
    """Write a tar.bz2 in the layout of LJSpeech 1.1: one voice, short phrases, chapters of 20.

    ``metadata.csv`` has lines ``id|text|normalized text``, ended by CR LF as in the real one. Clips
    are 22,050 Hz mono 16-bit, about 1.2 to 2.1 s, peaks -9..-3 dB of full scale. Phrases are as in
    the GRID corpus; three texts in four have a digit, which the normalized text spells out.
    """
    if clips < 1 or seed < 0:
        raise RecipeError(f"expected clips >= 1 and seed >= 0; got {clips}, {seed}")
    root, lines = "LJSpeech-1.1/", []
    members: dict[str, Content] = {root: b"", f"{root}wavs/": b"", f"{root}README": ABOUT}
    for index in range(clips):
        name = f"LJ{index // 20 + 1:03d}-{index % 20 + 1:04d}"
        rng = np.random.default_rng([seed, 4, index])
        drawn = [str(rng.choice(choices)) for choices in GRID]
        spoken = " ".join(drawn) + "."
        if rng.random() < 0.75:
            drawn[4] = str(GRID[4].index(drawn[4]))
        lines.append(f"{name}|{' '.join(drawn)}.|{spoken}\r\n")
        members[f"{root}wavs/{name}.wav"] = partial(_phrase, spoken, (seed, 5, index))
    members[f"{root}metadata.csv"] = "".join(lines).encode()
    with bz2.BZ2File(path, "wb") as stream:
        _write_tar(stream, members)


def _phrase(text: str, key: Sequence[int]) -> bytes:
    """One phrase as a WAV file; all that it draws comes from ``key``."""
    rng = np.random.default_rng(key)
    speech = _say(text, Voice("en-us+f3", rate=165, pitch=45, pitch_range=60), rng)
    return _wav(speech, SPEECH_RATE, peak=rng.uniform(-9, -3))


def _say(text: str, voice: Voice, rng: np.random.Generator) -> Samples:
    """``speak`` at a slightly other rate and pitch, cut where it stays 50 dB below its peak."""
    rate, pitch = round(voice.rate * rng.uniform(0.92, 1.08)), voice.pitch + rng.integers(-4, 5)
    samples = speak(text, replace(voice, rate=rate, pitch=int(pitch))).astype(np.float64)
    loud = np.flatnonzero(np.abs(samples) > 10 ** (-50 / 20) * np.abs(samples).max())
    return samples[loud[0] : loud[-1] + 1]


def _wav(samples: Samples, rate: int, *, peak: float) -> bytes:
    """Samples, scaled to a peak in dB of full scale, as a mono 16-bit PCM WAV file."""
    scaled = samples * (32767 * 10 ** (peak / 20) / np.abs(samples).max())
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, rate, samples.size, "NONE", "not compressed"))
        out.writeframes(np.rint(scaled).astype("<i2").tobytes())
    return file.getvalue()


def _write_tar(stream: io.BufferedIOBase, members: Mapping[str, Content]) -> None:
    """The members in sorted order, each made in its turn; the names of folders end in "/"."""
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        for name in sorted(members):
            content = members[name]
            data = content if isinstance(content, bytes) else content()
            info = tarfile.TarInfo(name.rstrip("/"))  # time, uid and gid are 0
            info.size, info.uname, info.gname = len(data), "root", "root"
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info, io.BytesIO(data))


def examples(
    corpus: Corpus,
    words: Sequence[str],
    speakers: int,
    takes: int,
    seed: int,
) -> Iterator[Example]:
    """Every clip, as the recipe of the corpus whose layout this is reads it."""
    speech_commands = load_recipe(Path(__file__).with_name("speech_commands.py"))
    return speech_commands.examples(corpus, words)


def noise(corpus: Corpus, seconds: float | None) -> Iterator[Example]:
    """The noise recordings, as that recipe cuts them."""
    cut = load_recipe(Path(__file__).with_name("speech_commands.py")).noise
    return cut(corpus, seconds) if cut else iter(())


RECIPE = Recipe(
    name="synthetic_commands",
    version=1,
    labels={"word": "class", "speaker": "text"},
    features=("mfcc", "log_mel", "spectrogram", "waveform"),
    examples=examples,
    load=load_audio,
    audio=Audio(sample_rate=COMMAND_RATE, duration=1.0),
    noise=noise,
    generators={"commands": write_commands, "phrases": write_phrases},
    hints={"target": "word"},
)
