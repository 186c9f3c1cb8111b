"""How local workers should start: fork server or spawn, with torch or without.

Times a whole process that starts two workers and has each compute the MFCC of 32 one-second clips
100 times, so that both start-up and speed count. Our kernel against torch's FFT (MKL).
"""

import multiprocessing
import resource
import statistics
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

ROUNDS = 3
BATCHES = 100


def own_mfcc(batches: int) -> int:
    """MFCC as shardwell computes it; the worker's peak memory in kB."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    from pipeline.features import Mfcc

    spec, clips = Mfcc.at(16000), np.random.default_rng(0).random((32, 16000), np.float32)
    with threadpool_limits(1):
        for _ in range(batches):
            spec.apply(clips)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def torch_mfcc(batches: int) -> int:
    """The same definition in torch, one thread; the worker's peak memory in kB."""
    import torch

    from pipeline.features import mel

    torch.set_num_threads(1)
    clips, window = torch.rand(32, 16000), torch.hann_window(400)
    filters = torch.tensor(mel.mel_filters(mel.MelBank(), 16000, 400)).float()
    dct = torch.tensor(mel.dct_matrix(64, 40, 0.0)).float()
    for _ in range(batches):
        spectrum = torch.stft(clips, 400, 160, window=window, return_complex=True)
        power = spectrum.abs().square().transpose(1, 2)
        decibels = 10 * torch.log10(torch.clamp(power @ filters, min=1e-10))
        peak = decibels.amax(dim=(1, 2), keepdim=True)
        _ = torch.maximum(decibels, peak - 80) @ dct
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


WAYS = {
    "fork server, no torch": ("forkserver", ["pipeline.build"], own_mfcc),
    "spawn, no torch": ("spawn", [], own_mfcc),
    "fork server, torch": ("forkserver", ["pipeline.build", "torch"], torch_mfcc),
    "spawn, torch": ("spawn", [], torch_mfcc),
}


def one_way(way: str, batches: int) -> None:
    """What the timed process does; prints the peak memory of a worker in kB."""
    method, preload, work = WAYS[way]
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(preload)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        print(max(pool.map(work, [batches, batches])))


def run() -> None:
    """Print a table: start-up alone, and with the work."""
    print("\n| two workers | start-up s | with 6,400 clips s | worker memory MB |")
    print("|---|---|---|---|")
    for way in WAYS:
        start = [_timed(way, 1)[0] for _ in range(ROUNDS)]
        whole, memory = zip(*(_timed(way, BATCHES) for _ in range(ROUNDS)), strict=True)
        cells = f"{statistics.median(start):.2f} | {statistics.median(whole):.2f}"
        print(f"| {way} | {cells} | {max(memory) / 1000:.0f} |", flush=True)


def _timed(way: str, batches: int) -> tuple[float, int]:
    command = [sys.executable, "-m", "tests.bench.start_workers", way, str(batches)]
    begin = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return time.perf_counter() - begin, int(done.stdout)


if __name__ == "__main__":
    one_way(sys.argv[1], int(sys.argv[2]))
