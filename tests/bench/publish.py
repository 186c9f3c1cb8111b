"""Publishing: 10,000 and 40,000 clips of 40 MFCC to a Hub on loopback, ours beside push_to_hub.

Whole processes are timed, start-up included, without Xet; ours verifies the dataset, writes and
proves the folder, loads it with ``datasets`` and sends it; ``push_to_hub`` sends what ``to_hf``
gives. Then what published files weigh beside the shards, by kind and type of features.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.prepare import Request, prepare_dataset
from tests.bench.corpora import ljspeech, speech_commands
from tests.bench.processes import measured
from tests.hub import TOKEN, running_hub

SIZES, ROUNDS = (10_000, 40_000), 3
KINDS = ("mfcc", "mfcc:dtype=float16", "log_mel", "log_mel:dtype=float16", "waveform")
PUSH = """
import sys
import datasets
from pipeline import open_dataset
data = open_dataset(sys.argv[1])
datasets.DatasetDict({name: data[name].to_hf() for name in data}).push_to_hub("me/theirs")
"""


def prepared(folder: Path, archive: Path, features: str) -> Path:
    """A dataset of an archive of ``corpora``."""
    request = Request(
        archive.stem.partition("-")[0],
        features=features,
        manifest=archive.with_suffix(".toml"),
        sources={"archive": archive},
        out=folder / "data",
        cache=folder / "cache",
    )
    return Path(prepare_dataset(request).folder)


def timed(command: list[str], home: Path) -> tuple[float, int]:
    """Seconds of a process with a Hub and a home of its own, and the peak of its memory in MB."""
    with running_hub() as hub:
        own = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(home / "hf")}
        quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        return measured([sys.executable, *command], home / "log", own | quiet)


def compare(folder: Path) -> None:
    """Ours beside ``push_to_hub``, the best of three rounds in turn."""
    print("\n| clips | way | s | memory MB |\n|---|---|---|---|")
    for count in SIZES:
        archive = folder / f"speech_commands-{count}.tar.gz"
        speech_commands(archive, count)
        data = str(prepared(folder, archive, "mfcc"))
        ours = ["-m", "pipeline", "publish", data, "me/ours", "--i-may-redistribute", "--cache"]
        ways = {
            "shardwell publish": [*ours, str(folder / "publish")],
            "push_to_hub": ["-c", PUSH, data],
        }
        found: dict[str, list[tuple[float, int]]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            for way, command in ways.items():
                found[way].append(timed(command, folder))
        for way, rounds in found.items():
            seconds, megabytes = min(rounds)
            print(f"| {count:,} | {way} | {seconds:.1f} | {megabytes} |", flush=True)


def sizes(folder: Path) -> None:
    """Shards beside published files."""
    print("\n| features | shards MB | Parquet MB | share |\n|---|---|---|---|")
    commands, phrases = folder / "speech_commands-2000.tar.gz", folder / "ljspeech-250.tar.bz2"
    speech_commands(commands, 2_000)
    ljspeech(phrases, 250)
    for archive, features in [(commands, kind) for kind in KINDS] + [(phrases, "log_mel")]:
        data, out = prepared(folder, archive, features), folder / "out"
        command = [sys.executable, "-m", "pipeline", "export", str(data), "--out", str(out)]
        subprocess.run(command, check=True, capture_output=True)
        raw, published = (
            sum(path.stat().st_size for path in place.rglob(f"*.{ending}")) / 1e6
            for place, ending in ((data, "arrow"), (out, "parquet"))
        )
        shutil.rmtree(out)
        name = f"{archive.stem.partition('-')[0]} {features}"
        print(f"| {name} | {raw:.1f} | {published:.1f} | {published / raw:.2f} |", flush=True)


def run() -> None:
    """Print the tables."""
    folder = Path(tempfile.mkdtemp(prefix="shardwell-bench-"))
    try:
        compare(folder)
        sizes(folder)
    finally:
        shutil.rmtree(folder)
