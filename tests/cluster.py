"""A Dask cluster over TCP and a store that speaks S3, both on the loopback."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass
class Cluster:
    """A scheduler and its workers, each a process group of its own."""

    address: str
    scheduler: subprocess.Popen[bytes]
    folder: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add_worker(self, package: bool = True, threads: int = 1) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it has joined; one without shardwell, if so asked."""
        import distributed

        options = ["--nthreads", str(threads), "--memory-limit", "0", "--no-nanny"]
        where = ["--local-directory", str(self.folder)]
        worker = _start(self.folder, "dask_worker", self.address, *options, *where, package=package)
        self.workers.append(worker)
        with distributed.Client(self.address, set_as_default=False) as client:
            _wait(lambda: len(client.nthreads()) == sum(w.poll() is None for w in self.workers))
        return worker


@contextlib.contextmanager
def started_cluster(folder: Path, workers: int) -> Iterator[Cluster]:
    """A scheduler with so many workers of one thread."""
    note = folder / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--dashboard-address", ":0"]
    scheduler = _start(folder, "dask_scheduler", *options, "--scheduler-file", str(note))
    cluster = Cluster("", scheduler, folder)
    try:
        _wait(note.exists)
        _wait(lambda: note.read_text().endswith("}"))
        cluster.address = json.loads(note.read_text())["address"]
        for _ in range(workers):
            cluster.add_worker()
        yield cluster
    finally:
        for process in (*cluster.workers, scheduler):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _start(folder: Path, *command: str, package: bool = True) -> subprocess.Popen[bytes]:
    """Without the package: a module of that name that is empty comes first on the path."""
    name, *options = command
    path = ROOT
    if not package:
        path = folder / "bare"
        (path / "pipeline").mkdir(parents=True)
        (path / "pipeline" / "__init__.py").touch()
    return subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{name}", *options],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(path)},
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _wait(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.05)


@contextlib.contextmanager
def started_store() -> Iterator[str]:
    """A store that speaks S3; its endpoint. Buckets are made by ``make_bucket``."""
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)  # a line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def make_bucket(name: str) -> str:
    """An S3 bucket at the endpoint of the environment; its URL."""
    import botocore.session

    client = botocore.session.get_session().create_client("s3")
    client.create_bucket(Bucket=name)
    client.close()
    return f"s3://{name}"
