"""Reports on 100,000 clips of 40 MFCC, and on waveforms of one second.

Whole processes, start-up included. Features are random, so that no two clips are alike; the pages
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

from tests.sealed import write_sealed

CORPORA = {  # clips, shape of each, shards
    "mfcc, 101×40": (((10_000, 101, 40), 1), ((100_000, 101, 40), 7)),
    "waveform, 16,000 samples": (((5_000, 16_000), 2), ((20_000, 16_000), 7)),
}


def make(folder: Path, shape: tuple[int, ...], shards: int) -> Path:
    """A sealed dataset of that many clips, noise at a tenth of full scale."""
    values = np.random.default_rng(0).standard_normal(shape, np.float32)
    values *= np.float32(0.1)
    return write_sealed(folder, list(values), shards, True)


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
    for name, sizes in CORPORA.items():
        for shape, shards in sizes:
            place = Path(tempfile.mkdtemp(prefix="shardwell-bench-"))
            try:
                # By a process of its own: what we have held counts as our children's memory, too.
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as maker:
                    folder = maker.submit(make, place / "made", shape, shards).result()
                seconds, memory, page = measured(folder, place / "out")
            finally:
                shutil.rmtree(place)
            megabytes = 4 * np.prod(shape) / 1e6
            row = f"{shape[0]:,} | {megabytes:,.0f} | {seconds:.1f} | {memory:,} | {page:,}"
            print(f"| {name} | {row} |", flush=True)
