"""The contract that every engine keeps."""

import functools
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pipeline.engines import ENGINES
from pipeline.errors import BuildError, ClipError


def double(factor: int, task: int) -> tuple[int, int]:
    return task, factor * task


def fail_at_three(task: int) -> int:
    if task == 3:
        raise ClipError("clip three: expected audio, got soup")
    return task


def die(task: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def where(task: int) -> int:
    time.sleep(0.05)
    return os.getpid()


@pytest.mark.parametrize("engine", ENGINES)
class TestEveryEngine:
    def test_each_task_is_done_once(self, engine: str) -> None:
        with ENGINES[engine](2, ()) as run:
            results = list(run(functools.partial(double, 3), range(40)))
        assert sorted(results) == [(i, 3 * i) for i in range(40)]

    def test_no_task_is_no_result(self, engine: str) -> None:
        with ENGINES[engine](2, ()) as run:
            assert list(run(fail_at_three, [])) == []

    def test_an_error_keeps_its_type_and_message(self, engine: str) -> None:
        with (
            ENGINES[engine](2, ()) as run,
            pytest.raises(ClipError, match=r"^clip three: expected"),
        ):
            list(run(fail_at_three, range(1000)))

    def test_it_runs_twice(self, engine: str) -> None:
        with ENGINES[engine](1, ()) as run:
            assert sorted(run(fail_at_three, [1, 2])) == [1, 2]
            assert sorted(run(fail_at_three, [4])) == [4]


def test_local_workers_are_processes_and_a_killed_one_is_reported() -> None:
    with ENGINES["local"](2, ()) as run:
        pids = set(run(where, range(10)))
        assert len(pids) == 2
        assert os.getpid() not in pids
        with pytest.raises(BuildError, match="a worker process died"):
            list(run(die, [1]))


def test_workers_end_when_the_driver_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, time
            from pipeline.engines import ENGINES
            def sleepy(task):
                print(os.getpid(), flush=True)
                time.sleep(60)
            if __name__ == "__main__":
                with ENGINES["local"](2, ()) as run:
                    list(run(sleepy, range(2)))
            """
        )
    )
    driver = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert driver.stdout
    with driver.stdout:
        pids = [int(driver.stdout.readline()) for _ in range(2)]
        driver.kill()
        driver.wait()
        deadline = time.monotonic() + 10
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
