"""Made recordings of a person's own: mixed formats and lengths, some broken; preparing them."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

from pipeline.loader.opening import open_dataset
from pipeline.prepare import Request, prepare_dataset

# ending, subtype, rate in Hz, channels
FORMATS = (
    ("wav", "PCM_16", 16_000, 1),
    ("wav", "PCM_24", 44_100, 2),
    ("wav", "FLOAT", 48_000, 1),
    ("flac", "PCM_16", 22_050, 1),
    ("ogg", "VORBIS", 32_000, 1),
    ("mp3", "MPEG_LAYER_III", 24_000, 1),
    ("aiff", "PCM_16", 11_025, 2),
    ("wav", "PCM_U8", 8_000, 1),
)
CLASSES = ("ja", "nein", '<b>"né" & co')
BROKEN = {"empty.wav": b"", "text.wav": b"this is no sound at all\n", "web.mp3": b"<!doctype html>"}


def recording(number: int) -> tuple[str, bytes]:
    """A name and the bytes of a recording: a tone of 0.3 to 1.2 s."""
    ending, subtype, rate, channels = FORMATS[number % len(FORMATS)]
    times = np.arange(int(rate * (0.3 + number % 4 * 0.3))) / rate
    tone = 0.3 * np.sin(2 * np.pi * (200 + 40 * number) * times)
    file = io.BytesIO()
    soundfile.write(file, np.stack([tone] * channels, 1), rate, subtype, format=ending.upper())
    return f"clip{number:02d}.{ending}", file.getvalue()


def recordings(count: int) -> Iterator[tuple[str, bytes]]:
    """That many of them."""
    return (recording(number) for number in range(count))


def write_folder(root: Path, classes: tuple[str, ...], count: int = 20) -> Path:
    """``count`` recordings in class folders, in turns."""
    for number, (name, data) in enumerate(recordings(count)):
        path = root / classes[number % len(classes)] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def ask(folder: Path, tmp_path: Path, **changes: object) -> Request:
    """A request for a folder of them, serial, all of it in ``tmp_path``."""
    fixed = {
        "recipe": "folder",
        "data": folder,
        "out": tmp_path / "out",
        "cache": tmp_path / "cache",
    }
    return Request(**(fixed | {"engine": "serial", "offline": True} | changes))  # type: ignore[arg-type]


def shares(request: Request) -> dict[str, str]:
    """Key → split."""
    data = open_dataset(prepare_dataset(request).folder)
    return {key: split for split in data for key in data[split].column("key")}
