"""Reports on 100,000 clips of one second: 101×40 MFCC, and waveforms.

Whole processes, start-up included. Values are random, so that no two clips are alike; the pages
that a process has mapped of a shard count as its memory.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from pipeline.features import Feature, Mfcc, Waveform
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


def measured(folder: Path, out: Path) -> tuple[float, int, int]:
    """Seconds of ``shardwell report``, the peak of its memory in MB, and the page's kB."""
    command = [sys.executable, "-m", "pipeline", "report", str(folder), "--out", str(out)]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"shardwell report {folder} failed")
    page = out / folder.name / "report.html"
    return seconds, usage.ru_maxrss // 1024, page.stat().st_size // 1000


def run() -> None:
    """Print the table."""
    print("\n| features | clips | data MB | s | memory MB | page kB |\n|---|---|---|---|---|---|")
    for feature, shape in CORPORA:
        place = Path(tempfile.mkdtemp(prefix="shardwell-bench-"))
        try:
            # By a process of its own: what we have held counts as our children's memory, too.
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as maker:
                size = maker.submit(make, place / "made", feature, shape).result()
            seconds, memory, page = measured(place / "made", place / "out")
        finally:
            shutil.rmtree(place)
        row = f"{shape[0]:,} | {size / 1e6:,.0f} | {seconds:.1f} | {memory:,} | {page:,}"
        print(f"| {feature.kind} | {row} |", flush=True)
