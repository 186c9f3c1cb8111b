"""Corpora for the benchmarks, in the layouts of the real ones and of any size.

Speech is the Free Spoken Digit Dataset where real recordings are at hand (else the formula of the
golden tests), resampled to the wanted rate, at a random level over a little noise, so that no two
clips are alike and gzip finds as much as in the real archives.
"""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
from isal import igzip

from pipeline.files import sha256_of
from tests.conftest import real_data
from tests.golden.cases import formula

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
Samples = npt.NDArray[np.int16]


def voices(rate: int) -> list[npt.NDArray[np.float32]]:
    """Utterances at a rate in Hz, float32 in [-1, 1]."""
    try:
        with tarfile.open(real_data() / "free-spoken-digit-dataset.tar.gz") as tar:
            names = sorted(n for n in tar.getnames() if n.endswith(".wav"))[::5]
            files = [tar.extractfile(name) for name in names]
            spoken = [soundfile.read(io.BytesIO(f.read()), dtype="float32") for f in files if f]
    except FileNotFoundError:
        spoken = [(formula(8000).astype(np.float32) / 32768, 8000)]
    return [soxr.resample(samples, own_rate, rate) for samples, own_rate in spoken]


def clips(count: int, rate: int, seconds: float, seed: int = 0) -> Iterator[Samples]:
    """``count`` clips of equal length, (rate·seconds) int16: words one after the other."""
    rng, n = np.random.default_rng(seed), int(rate * seconds)
    speech = np.concatenate(voices(rate))
    while len(speech) < 2 * n:
        speech = np.concatenate([speech, speech])
    noise = rng.standard_normal(4 * n, np.float32)
    for _ in range(count):
        start, hiss = rng.integers(len(speech) - n), rng.integers(3 * n)
        level, floor = rng.uniform(0.3, 0.9), rng.uniform(1e-5, 5e-4)
        clip = speech[start : start + n] * level + noise[hiss : hiss + n] * floor
        yield (clip.clip(-1, 1) * 32767).astype(np.int16)


def wav(samples: Samples, rate: int) -> bytes:
    """A 16-bit mono WAV file."""
    size, packed = 2 * len(samples), samples.astype("<i2").tobytes()
    head = b"RIFF" + (36 + size).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    numbers = ((1, 2), (1, 2), (rate, 4), (2 * rate, 4), (2, 2), (16, 2))
    head += b"".join(number.to_bytes(width, "little") for number, width in numbers)
    return head + b"data" + size.to_bytes(4, "little") + packed


def speech_commands(path: Path, count: int) -> Path:
    """A tar.gz of ``count`` one-second clips in Speech Commands' layout, and its manifest beside.

    Returns:
        The manifest, whose only source is ``archive``.
    """
    held_out: dict[str, list[str]] = {"validation": [], "testing": []}
    with (
        igzip.open(path, "wb", compresslevel=2) as out,
        tarfile.open(fileobj=out, mode="w") as tar,
    ):
        for i, samples in enumerate(clips(count, 16000, 1.0)):
            name = f"{WORDS[i % 10]}/{i // 40:08x}_nohash_{i // 10 % 4}.wav"
            _add(tar, f"./{name}", wav(samples, 16000))
            if i % 10 == i // 10 % 10:
                held_out["validation" if i % 20 < 10 else "testing"].append(name)
        for kind, names in held_out.items():
            _add(tar, f"./{kind}_list.txt", "".join(f"{n}\n" for n in names).encode())
    return _manifest(path, "speech_commands", 'sources.main = "archive"\nparams.words = []')


def ljspeech(path: Path, count: int) -> float:
    """A tar.bz2 of ``count`` clips in LJSpeech's layout, and its manifest; their seconds in all."""
    lengths = np.random.default_rng(1).uniform(1.2, 10.0, count)
    names = [f"LJ{i // 300 + 1:03d}-{i % 300 + 1:04d}" for i in range(count)]
    with tarfile.open(path, "w:bz2") as tar:
        text = "".join(f"{name}|In being modern,|In being modern,\n" for name in names)
        _add(tar, "LJSpeech-1.1/metadata.csv", text.encode())
        for name, seconds, samples in zip(names, lengths, clips(count, 22050, 10.0), strict=True):
            whole = wav(samples[: int(seconds * 22050)], 22050)
            _add(tar, f"LJSpeech-1.1/wavs/{name}.wav", whole)
    held_out = 'sources.archive = "archive"\nparams = { validation = 100, test = 100 }'
    _manifest(path, "ljspeech", held_out)
    return float(lengths.sum())


def _manifest(archive: Path, recipe: str, protocol: str) -> Path:
    path = archive.with_suffix(".toml")
    size, digest = archive.stat().st_size, sha256_of(archive)
    path.write_text(MANIFEST.format(recipe, archive.name, size, digest, protocol))
    return path


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


MANIFEST = """
name = "{}"
title = "Made for the benchmark"
licence = "CC BY-SA 4.0"
homepage = "https://github.com/Jakobovski/free-spoken-digit-dataset"
citation = "Z. Jackson: Free Spoken Digit Dataset."

[sources.archive]
file = "{}"
bytes = {}
sha256 = "{}"

[protocols.all]
about = "Every clip."
{}
splits = {{ train = "unpinned", validation = "unpinned", test = "unpinned" }}
"""
