"""Training on several ranks and in several processes, killed and gone on with."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from pipeline.loader import make_loader, open_dataset
from tests.sealed import write_sealed

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent


def torchrun(world: int, *arguments: object) -> None:
    """Run the job on so many ranks of this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(world), "-m", "tests.ranks_job", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]


def noted(folder: Path, world: int) -> list[str]:
    """The keys of all ranks' batches."""
    parts = [json.loads((folder / f"{world}-{rank}.json").read_text()) for rank in range(world)]
    assert len({len(part) for part in parts}) == 1
    return [key for part in parts for batch in part for key in batch]


def test_two_ranks_and_then_three_serve_every_example_once(
    digits_dataset: Path, tmp_path: Path
) -> None:
    state = tmp_path / "state.json"
    torchrun(2, digits_dataset, tmp_path, state, 4)
    first = noted(tmp_path, 2)
    assert len(first) == len(set(first)) == 2 * 4 * 16
    torchrun(3, digits_dataset, tmp_path, state, 10**6)
    rest = noted(tmp_path, 3)
    keys = open_dataset(digits_dataset, key=True)["train"].column("key").tolist()
    assert set(first) | set(rest) == set(keys)
    # Of 19 batches 8 were served. Three ranks share 11 out, and one takes one batch again: the
    # epoch's first.
    again = Counter(first + rest)
    assert set(again.values()) <= {1, 2}
    twice = [key for key, times in again.items() if times == 2]
    assert len(twice) == 16
    assert set(twice) <= set(first)
    assert json.loads(state.read_text())["epoch"] == 1


JOB = """
    import json, os, sys
    from pathlib import Path
    from pipeline.loader import make_loader, open_dataset

    folder, state, log, workers = sys.argv[1:]
    split = open_dataset(folder, key=True)["train"]
    loader = make_loader(split, 4, shuffle=True, seed=2, num_workers=int(workers))
    if os.path.exists(state):
        loader.load_state_dict(json.loads(Path(state).read_text()))
    for _ in range(3):
        for batch in loader:
            line = json.dumps([loader.state_dict(), batch["key"]])
            with open(log, "a") as out:  # one write: what a killed run noted is whole lines
                out.write(line + chr(10))
            Path(state + ".new").write_text(json.dumps(loader.state_dict()))
            os.replace(state + ".new", state)
"""


def run_job(tmp_path: Path, dataset: Path, workers: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", textwrap.dedent(JOB), str(dataset)]
    command += [str(tmp_path / "state"), str(tmp_path / "log"), str(workers)]
    return subprocess.Popen(command, cwd=ROOT, start_new_session=True)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_loader_goes_on_where_it_saved(
    digits_dataset: Path, tmp_path: Path, workers: int
) -> None:
    """Killed in mid epoch, twice; the batch in hand when it is killed is served again at most."""
    log = tmp_path / "log"
    for kill in range(2):
        process = run_job(tmp_path, digits_dataset, workers)
        wanted = 20 + 30 * kill
        while not log.exists() or len(log.read_text().splitlines()) < wanted:
            assert process.poll() is None
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert run_job(tmp_path, digits_dataset, 0).wait(timeout=120) == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    batches = {json.dumps(state): keys for state, keys in lines}  # the last one counts
    assert len(lines) - len(batches) <= 2
    split = open_dataset(digits_dataset, key=True)["train"]
    undisturbed = make_loader(split, 4, shuffle=True, seed=2)
    whole = [batch["key"] for _ in range(3) for batch in undisturbed]
    assert list(batches.values())[: len(whole)] == whole


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_may_be_started_in_any_way(digits_dataset: Path, method: str) -> None:
    split = open_dataset(digits_dataset, key=True)["train"]
    alone = [batch["key"] for batch in make_loader(split, 32, shuffle=True)]
    loader = make_loader(split, 32, shuffle=True, num_workers=2)
    loader.multiprocessing_context = method
    assert [batch["key"] for batch in loader] == alone


def own_memory(process: psutil.Process) -> int:
    """Bytes that are a process's own; pages of mapped files, which the system can drop, are not."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("Anonymous:"))
    return int(kilobytes) << 10


@pytest.fixture
def wide(tmp_path: Path) -> Any:
    """100 MB in ten shards."""
    rows = list(np.zeros((6_000, 101, 40), np.float32))
    return open_dataset(write_sealed(tmp_path / "wide", rows, 10, True))["train"]


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="Linux tells it")
def test_memory_stays_flat_over_an_epoch(wide: Any) -> None:
    """That of the process itself and of its workers."""
    torch.set_num_threads(1)
    for workers in (0, 2):
        loader = make_loader(wide, 64, shuffle=True, num_workers=workers)
        stream = iter(loader)
        for _ in range(4):
            next(stream)
        processes = [psutil.Process(), *psutil.Process().children()]
        before = {p.pid: own_memory(p) for p in processes}
        for i, _ in enumerate(stream):
            if i == 80:
                for p in processes:
                    assert own_memory(p) - before[p.pid] < 20 << 20
        assert i >= 80
