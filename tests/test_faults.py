"""What a machine does to a run of hours: kills, full disks, lost connections, a second run.

The whole command is run on 3,000 one-second clips that come from a server on loopback, so that
downloading, inflating, planning and building all have their share of the blows.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.bench.corpora import speech_commands
from tests.servers import Act, Server, serving

pytestmark = pytest.mark.slow
CLIPS, KILLS, SHARD = 3000, 20, 16 << 20


@dataclass(frozen=True)
class Corpus:
    """An archive behind a server, its manifest, and the dataset that an undisturbed run gives."""

    server: Server
    archive: Path
    manifest: Path
    whole: Mapping[str, bytes]
    seconds: float


def command(manifest: Path, work: Path, *more: str, cache: Path | None = None) -> list[str]:
    places = ["--out", str(work / "data"), "--cache", str(cache or work / "cache")]
    what = ["prepare", "speech_commands", "--manifest", str(manifest), "--features", "waveform"]
    return [sys.executable, "-m", "pipeline", *what, *places, "--workers", "2", "--quiet", *more]


def finished(run: list[str]) -> Path:
    """Run to the end; the dataset's folder."""
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.splitlines()[-1])


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a dataset; nothing else may lie there."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def leftovers(work: Path) -> list[Path]:
    """Temporary files, which a finished run must not leave."""
    return [path for path in work.rglob("*") if path.suffix == ".part" or ".part." in path.name]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    folder = tmp_path_factory.mktemp("faults")
    archive = folder / "clips.tar.gz"
    manifest = speech_commands(archive, CLIPS)
    with serving() as server:
        urls = server.plays(clips=Act(archive.read_bytes(), headers={"ETag": '"1"'}))
        told = manifest.read_text().replace("[protocols", f'urls = ["{urls[0]}"]\n\n[protocols', 1)
        manifest.write_text(told)
        begin = time.monotonic()
        built = finished(command(manifest, folder / "undisturbed"))
        seconds = time.monotonic() - begin
        whole = contents(built)
        assert sum(name.endswith(".arrow") for name in whole) > 4
        assert not leftovers(folder)
        yield Corpus(server, archive, manifest, whole, seconds)


def started(run: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_killed_run_is_resumed_to_the_same_bytes(
    corpus: Corpus, tmp_path: Path, seed: int
) -> None:
    """``kill -9`` anywhere: of the driver alone, or of all its processes."""
    chance = random.Random(seed)
    run = command(corpus.manifest, tmp_path)
    process = started(run)
    time.sleep(chance.uniform(0.2, corpus.seconds))
    if chance.random() < 0.5:
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)  # until the last worker has let go of the pipes
    assert contents(finished(run)) == corpus.whole
    assert not leftovers(tmp_path)


def test_a_worker_killed_by_the_system_is_one_line(corpus: Corpus, tmp_path: Path) -> None:
    run = command(corpus.manifest, tmp_path)
    process = started(run)
    shards = tmp_path / "data" / "speech_commands"
    while not list(shards.glob("*/[!.]*.arrow")):
        assert process.poll() is None
        time.sleep(0.005)
    server = psutil.Process(process.pid).children()
    workers = [worker for one in server for worker in one.children()]
    assert workers
    workers[0].kill()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told.count("\n") == 1
    assert told.startswith("shardwell: a worker process died")
    assert contents(finished(run)) == corpus.whole
    assert not leftovers(tmp_path)


def test_ctrl_c_is_one_line(corpus: Corpus, tmp_path: Path) -> None:
    run = command(corpus.manifest, tmp_path)
    process = started(run)
    while not any(tmp_path.rglob(".plan.arrow")):  # then shards are being built
        assert process.poll() is None
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (
        told == "shardwell: interrupted; what is finished is kept, run the same command to go on\n"
    )
    assert contents(finished(run)) == corpus.whole


def test_two_runs_at_once_make_one_dataset(corpus: Corpus, tmp_path: Path) -> None:
    asked = len(corpus.server.asked)
    processes = [started(command(corpus.manifest, tmp_path)) for _ in range(2)]
    told = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], told
    assert sorted(out.partition(":")[0] for out, _ in told) == ["prepared", "up to date"]
    assert sum("another process is at work on it" in err for _, err in told) == 1
    folders = {out.splitlines()[-1] for out, _ in told}
    assert contents(Path(folders.pop())) == corpus.whole
    assert not folders
    assert len(corpus.server.asked) == asked + 1  # one download


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 320 MB; only a privileged user can mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=320m", "tmpfs", str(folder)]
    if not Path("/bin/mount").exists() or subprocess.run(mount, check=False).returncode:
        pytest.skip("no small file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize(
    "room", [10 << 20, 110 << 20, 200 << 20], ids=["download", "inflate", "build"]
)
def test_a_full_disk_is_one_line_and_loses_nothing(
    corpus: Corpus, small_disk: Path, room: int
) -> None:
    """As much room as the archive, its inflated copy or the shards don't fit in any more."""
    filler, free = small_disk / "filler", os.statvfs(small_disk)
    filler.write_bytes(bytes(free.f_bavail * free.f_frsize - room))
    run = command(corpus.manifest, small_disk)
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"shardwell: {small_disk}")
    assert "No space left on device" in line or "are free; make room or choose another" in line
    assert not list(small_disk.rglob("dataset.json"))
    filler.unlink()
    assert contents(finished(run)) == corpus.whole
    assert not leftovers(small_disk)


def test_a_disk_that_fills_up_under_way(corpus: Corpus, small_disk: Path, tmp_path: Path) -> None:
    run = command(corpus.manifest, small_disk, cache=tmp_path / "cache")
    process = started(run)
    shards = small_disk / "data" / "speech_commands"
    while not list(shards.glob("*/.train*.part")):
        assert process.poll() is None
        time.sleep(0.001)
    fill = ["dd", "if=/dev/zero", f"of={small_disk / 'filler'}", "bs=1M"]
    assert b"No space" in subprocess.run(fill, capture_output=True, check=False).stderr
    _, told = process.communicate(timeout=60)
    assert process.returncode == 1
    assert told.count("\n") == 1
    assert "No space left on device; what is finished is kept" in told
    (small_disk / "filler").unlink()
    assert contents(finished(run)) == corpus.whole
    assert not leftovers(small_disk)
