"""What the reference trainer reaches: every system on the real data beside the project.

A table of Markdown. Each system is a command line of ``shardwell train``; a run that was cut off
goes on, one that is finished is only told again. All of it takes about two hours on two cores.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.loader import open_dataset
from pipeline.prepare import Request, prepare_dataset
from pipeline.train import run_name, settings_for, train
from pipeline.train.checkpoint import load
from pipeline.train.robustness import robustness
from tests.conftest import ROOT, real_data

RUNS, DATA = ROOT / "runs" / "results", ROOT / "data"
COARSE = "log_mel:n_mels=40,hop_length=320,floor=1e-5,top=none"  # half the frames: half the time


@dataclass(frozen=True)
class System:
    """A row of the table: a title, a dataset and the settings that aren't the model's own."""

    title: str
    dataset: str
    given: dict[str, Any]


SYSTEMS = (
    System("Conv2d", "words", {"model": "conv2d"}),
    System("CRNN, both directions", "words", {"model": "crnn"}),
    System("CRNN, streaming", "clips", {"model": "crnn", "options": {"bidirectional": False}}),
    System("Conv1d", "words", {"model": "conv1d"}),
    System(
        "BC-ResNet-2",
        "clips",
        {
            "model": "bcresnet",
            "options": {"scale": 2},
            "features": COARSE,
            "epochs": 28,
            "batch_size": 32,
            "lr": 0.006,
            "warmup": 1 / 28,
            "eval_every": 98,
            "augment": ("shift", "mask"),
        },
    ),
    System("LSTM, one epoch", "images", {"model": "lstm"}),
    System(
        "LSTM, six epochs",
        "images",
        {
            "model": "lstm",
            "options": {"hidden": 96, "layers": 2},
            "epochs": 6,
            "lr": 0.003,
            "schedule": "cosine",
        },
    ),
)


def requests() -> dict[str, dict[str, Any]]:
    """The datasets by the names that systems call them."""
    data = real_data()
    words = {
        "recipe": "speech_commands",
        "manifest": ROOT / "tests" / "real" / "speech_commands.toml",
        "sources": {"v1": data / "speech_commands_v0.01_subset.tar.gz"},
    }
    images = {
        "train-images": "train-images-idx3-ubyte.gz",
        "train-labels": "train-labels-idx1-ubyte.gz",
        "test-images": "t10k-images-idx3-ubyte.gz",
        "test-labels": "t10k-labels-idx1-ubyte.gz",
    }
    sources = {name: data / "mnist" / file for name, file in images.items()}
    return {
        "words": words,
        "clips": words | {"features": "waveform"},
        "images": {"recipe": "mnist", "protocol": "last-5000", "sources": sources},
    }


def run() -> None:
    """Print the table, a row as soon as it is known."""
    if not real_data().is_dir():
        print("results need the real data: set SHARDWELL_REAL_DATA")
        return
    with tempfile.TemporaryDirectory() as cache:
        folders = {
            name: prepare_dataset(Request(**asked, out=DATA, cache=cache, offline=True)).folder
            for name, asked in requests().items()
        }
    print("| system | dataset | parameters | steps | test accuracy | chance |")
    print("|---|---|--:|--:|--:|--:|")
    for system in SYSTEMS:
        folder = folders[system.dataset]
        data = open_dataset(folder)
        settings = settings_for(system.given, data.info["hints"])
        done = train(folder, settings, RUNS / run_name(data, settings), bars=True)
        assert done.test
        accuracy, chance = done.test.scores["accuracy"], done.test.chance
        name = f"{data.info['recipe']['name']} {data.info['protocol']['name']}"
        print(
            f"| {system.title} | {name} | {done.parameters:,} | {done.steps:,} "
            f"| {accuracy:.3f} | {chance:.3f} |",
            flush=True,
        )
        if data.info["audio"]:
            _bears(done.folder, folders["clips"])


def _bears(folder: Path, clips: Path) -> None:
    """The same model under noise, at other speeds, on speakers that it never heard."""
    rows = robustness(load(folder), open_dataset(clips), "test")
    print("| " + " · ".join(f"{row.name} {row.score:.3f}" for row in rows) + " ||||||")
