"""Users of a Hub on loopback: the unmodified clients, in processes of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.dataset import NAME
from pipeline.prepare import Request
from tests.hub import TOKEN, Hub

Ask = Callable[..., Request]
Done = subprocess.CompletedProcess[str]
slow = pytest.mark.slow


class Client:
    """Runs ``shardwell`` or Python as a user of a Hub, without Xet, with a home of its own."""

    def __init__(self, hub: Hub, home: Path) -> None:
        self.hub, self.home = hub, home

    def environment(self, token: str | None, **more: str) -> dict[str, str]:
        own = {
            "HF_HOME": str(self.home / "hf"),
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HOME": str(self.home),
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
        return inherited | own | ({"HF_TOKEN": token} if token else {}) | more

    def run(self, *command: str, token: str | None = TOKEN, **environment: str) -> Done:
        return subprocess.run(
            [sys.executable, *command],
            env=self.environment(token, **environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def shardwell(self, *arguments: object, **how: Any) -> Done:
        return self.run("-m", "pipeline", *map(str, arguments), **how)

    def publish(self, *arguments: object, **how: Any) -> Done:
        return self.shardwell("publish", *arguments, **how)

    def python(self, code: str, **how: Any) -> Any:
        """What the code printed last, as JSON."""
        done = self.run("-c", code, **how)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


def ok(done: Done) -> Done:
    assert done.returncode == 0, done.stderr
    return done


def only_line(done: Done, code: int = 1) -> str:
    """The one line of a job that failed."""
    assert done.returncode == code, done.stderr
    lines = done.stderr.replace("\r", "\n").strip().splitlines()
    told = [line for line in lines if line.startswith("shardwell: ")]
    assert lines[-1 - (code == 2)] == told[0], done.stderr
    assert len(told) == 1
    assert "Traceback" not in done.stderr
    return told[0]


def published_files(hub: Hub, name: str, revision: str = "main") -> set[str]:
    return set(hub.repos[name].files(revision)[1]) - {".gitattributes"}


def same_folders(first: Path, second: Path) -> None:
    """Equal files, sidecars left aside."""
    names = {path.name for path in second.iterdir() if not path.name.startswith(".")}
    assert names == {
        path.name for path in first.iterdir() if path.suffix == ".arrow" or path.name == NAME
    }
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
