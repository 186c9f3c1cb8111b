"""Reports on 100,000 clips of one second: 101×40 MFCC, and waveforms.

Whole processes, start-up included. Values are random, so that no two clips are alike; the pages
that a process has mapped of a shard count as its memory.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from pipeline.features import Feature, Mfcc, Waveform
from tests.bench.processes import measured
from tests.sealed import Made, write_made

MFCC, WAVES = Mfcc.at(16000, n_mfcc=40), Waveform(16000, "int16")
CORPORA: tuple[tuple[Feature, tuple[int, ...]], ...] = (
    (MFCC, (10_000, 101, 40)),
    (MFCC, (100_000, 101, 40)),
    (WAVES, (10_000, 16_000)),
    (WAVES, (100_000, 16_000)),
)
BYTES = 256 << 20  # of a shard, about


def make(folder: Path, feature: Feature, shape: tuple[int, ...]) -> int:
    """A sealed dataset of that many clips of noise, 35 words by 2,000 speakers; its bytes."""
    rng = np.random.default_rng(0)
    if feature == WAVES:
        values = rng.integers(-3000, 3000, shape, np.int16)
    else:
        values = rng.standard_normal(shape, np.float32)
    rows = [
        (f"{n:08d}", {"word": n % 35, "speaker": n % 2000}, clip) for n, clip in enumerate(values)
    ]
    made = Made(
        feature,
        {"word": "class", "speaker": "int"},
        {"train": rows},
        {"word": [f"word{n:02d}" for n in range(35)]},
        fixed=True,
        shards=-(-values.nbytes // BYTES),
        statistics=False,
    )
    write_made(folder, made)
    return int(values.nbytes)


def reported(folder: Path, out: Path) -> tuple[float, int, int]:
    """Seconds of ``shardwell report``, the peak of its memory in MB, and the page's kB."""
    command = [sys.executable, "-m", "pipeline", "report", str(folder), "--out", str(out)]
    seconds, memory = measured(command, folder.with_name("log"))
    return seconds, memory, (out / folder.name / "report.html").stat().st_size // 1000


def run() -> None:
    """Print the table."""
    print("\n| features | clips | data MB | s | memory MB | page kB |\n|---|---|---|---|---|---|")
    for feature, shape in CORPORA:
        place = Path(tempfile.mkdtemp(prefix="shardwell-bench-"))
        try:
            size = make(place / "made", feature, shape)
            seconds, memory, page = reported(place / "made", place / "out")
        finally:
            shutil.rmtree(place)
        row = f"{shape[0]:,} | {size / 1e6:,.0f} | {seconds:.1f} | {memory:,} | {page:,}"
        print(f"| {feature.kind} | {row} |", flush=True)
