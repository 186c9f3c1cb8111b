"""Archives in the layouts of real corpora, a few noisy clips each, opened as recipes get them."""

import hashlib
import io
import tarfile
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.archive import Opened, open_source
from pipeline.recipe import Corpus
from pipeline.records import Example

TEN = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")
NOISES = {"pink_noise": 40_000, "running_tap": 40_001, "white_noise": 24_001}  # samples


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def wav(samples: int, seed: int, rate: int = 16_000) -> bytes:
    """So many samples of noise as a file."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        noise = np.random.default_rng(seed).normal(0, 3000, samples)
        file.writeframes(noise.astype("<i2").tobytes())
    return out.getvalue()


def main_archive(path: Path) -> Path:
    """Twelve words by five speakers, one of them for validation and one for test, and noise."""
    words = (*TEN, "bed", "cat")
    clips = {w: [f"{w}/{s:08x}_nohash_0.wav" for s in range(5)] for w in words}
    members = {f"./{c}": wav(9000, i) for i, c in enumerate(c for w in words for c in clips[w])}
    lists = {"validation": 3, "testing": 4}
    for name, speaker in lists.items():
        held_out = "\n".join(clips[word][speaker] for word in words)
        members[f"./{name}_list.txt"] = held_out.encode()
    for i, (name, samples) in enumerate(NOISES.items()):
        members[f"./_background_noise_/{name}.wav"] = wav(samples, 1000 + i)
    return tar_of(path, members)


def companion(path: Path, without: str = "", also: str = "") -> Path:
    """What the official test-set archive holds: 10 words, one twice, unknown words, silence."""
    clips = [f"{word}/00000004_nohash_0.wav" for word in TEN]
    clips += ["yes/0000000a_nohash_1.wav.wav", "_silence_/0.wav", "_silence_/1.wav"]
    clips += [f"_unknown_/{word}_00000004_nohash_0.wav" for word in ("bed", "cat", "dog")]
    kept = [clip for clip in clips if not without or not clip.startswith(without)]
    members = {
        f"./{c}": wav(16_000, 2000 + i) for i, c in enumerate([*kept, *filter(None, [also])])
    }
    return tar_of(path, members | {"./README.md": b"A companion", "./LICENSE": b"CC BY"})


def spoken_digits(path: Path, folder: str = "") -> Path:
    """Two digits by two speakers, recordings 0 to 11 of 0.2 s, at 8 kHz."""
    clips = [f"{d}_{s}_{n}" for d in (0, 7) for s in ("ann", "bob") for n in range(12)]
    members = {f"{folder}recordings/{c}.wav": wav(1600, i, 8000) for i, c in enumerate(clips)}
    return tar_of(path, members | {f"{folder}README.md": b"x", f"{folder}recordings/x.txt": b"x"})


def idx_files(folder: Path, images: int = 12, labels: int = 12) -> dict[str, Path]:
    """Miniature MNIST files, inflated."""
    files = {}
    for part in ("train", "test"):
        pixels = np.arange(images * 784, dtype=np.uint32).astype(np.uint8).tobytes()
        header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (images, 28, 28))
        digits = bytes(i % 10 for i in range(labels))
        for kind, data in (
            ("images", header + pixels),
            ("labels", bytes([0, 0, 8, 1]) + labels.to_bytes(4, "big") + digits),
        ):
            files[f"{part}-{kind}"] = folder / f"{part}-{kind}"
            files[f"{part}-{kind}"].write_bytes(data)
    return files


def corpus_of(**files: Path) -> Corpus:
    """What a recipe is given: role → archive or file."""
    return Corpus({role: opened(role, p) for role, p in files.items()})


def opened(role: str, file: Path) -> Opened:
    """A source, opened beside its file."""
    data = file.read_bytes()
    return open_source(role, file, hashlib.sha256(data).hexdigest(), file.parent, lambda done: None)


def splits_of(found: Iterator[Example]) -> dict[str, list[str]]:
    """Split → keys."""
    splits: dict[str, list[str]] = {}
    for example in found:
        splits.setdefault(example.split, []).append(example.key)
    return splits
