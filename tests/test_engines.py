"""The contract that every engine keeps."""

import functools
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest

from pipeline.engines import ENGINES, Run
from pipeline.errors import BuildError, ClipError, UsageError
from pipeline.prepare import Request, prepare_dataset
from tests.cluster import Cluster, started_cluster


def double(factor: int, task: int) -> tuple[int, int]:
    return task, factor * task


def fail_at_three(task: int) -> int:
    if task == 3:
        raise ClipError("clip three: expected audio, got soup")
    return task


def look_up(name: str) -> str | None:
    return os.environ.get(name)


def die(task: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def where(task: int) -> int:
    time.sleep(0.05)
    return os.getpid()


def slowly(log: Path, task: int) -> int:
    """Notes when it begins, so that a test sees what is in flight."""
    with log.open("a") as out:
        out.write(f"{task}\n")
    time.sleep(0.02)
    return task


def die_once(marker: Path, task: int) -> int:
    if task == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("dask", "tcp")]


@pytest.fixture(params=["serial", "local", *SLOW])
def start(request: pytest.FixtureRequest) -> Callable[[int], AbstractContextManager[Run]]:
    """``start(workers)`` of every engine; "tcp" is Dask's with a cluster that runs elsewhere."""
    if request.param == "tcp":
        address = request.getfixturevalue("cluster").address
        return lambda workers: ENGINES["dask"](workers, (), address)
    return lambda workers: ENGINES[request.param](workers, ())


Start = Callable[[int], AbstractContextManager[Run]]


class TestEveryEngine:
    def test_each_task_is_done_once(self, start: Start, tmp_path: Path) -> None:
        with start(2) as run:
            results = list(run(functools.partial(double, 3), range(40)))
            log = tmp_path / "log"
            assert sorted(run(functools.partial(slowly, log), range(20))) == list(range(20))
        assert sorted(results) == [(i, 3 * i) for i in range(40)]
        assert sorted(map(int, log.read_text().split())) == list(range(20))

    def test_no_task_is_no_result_and_it_runs_twice(self, start: Start) -> None:
        with start(1) as run:
            assert list(run(fail_at_three, [])) == []
            assert sorted(run(fail_at_three, [1, 2])) == [1, 2]
            assert sorted(run(fail_at_three, [4])) == [4]

    def test_an_error_keeps_its_type_and_message(self, start: Start) -> None:
        with start(2) as run, pytest.raises(ClipError, match=r"^clip three: expected"):
            list(run(fail_at_three, range(1000)))

    def test_few_tasks_are_in_flight(self, start: Start) -> None:
        """Tasks are drawn as workers come free, never all at once."""
        drawn = 0

        def tasks() -> Iterator[int]:
            nonlocal drawn
            while drawn < 60:
                drawn += 1
                yield drawn

        with start(2) as run:
            for done, _ in enumerate(run(functools.partial(double, 1), tasks())):
                assert drawn <= done + 2 * 2 + 1


def test_local_workers_are_processes_and_a_killed_one_is_reported() -> None:
    with ENGINES["local"](2, ()) as run:
        pids = set(run(where, range(10)))
        assert len(pids) == 2
        assert os.getpid() not in pids
        with pytest.raises(BuildError, match="a worker process died"):
            list(run(die, [1]))


@pytest.mark.parametrize("engine", ["serial", "local", SLOW[0]])
def test_workers_have_the_environment_of_now(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("first", "second"):
        monkeypatch.setenv("SHARDWELL_TEST", value)
        with ENGINES[engine](1, ()) as run:
            assert list(run(look_up, ["SHARDWELL_TEST"])) == [value]
    monkeypatch.delenv("SHARDWELL_TEST")
    with ENGINES[engine](1, ()) as run:
        assert list(run(look_up, ["SHARDWELL_TEST"])) == [None]


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


def test_an_address_is_for_engines_that_take_one(ask_digits: Callable[..., Request]) -> None:
    with pytest.raises(UsageError, match="--address is for --engine dask, got --engine local"):
        prepare_dataset(ask_digits(engine="local", address="tcp://127.0.0.1:1"))
    with pytest.raises(UsageError, match="--workers is for workers of this machine"):
        prepare_dataset(ask_digits(engine="dask", workers=2, address="tcp://127.0.0.1:1"))


class TestDask:
    def test_without_dask_one_line_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "distributed", None)
        with (
            pytest.raises(UsageError, match=r"pip install 'shardwell\[dask\]'"),
            ENGINES["dask"](1, ()),
        ):
            pass

    @pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1:x"])
    def test_no_scheduler_is_one_line(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pipeline.engines.dask_engine.CONNECT", 0.5)
        with (
            pytest.raises(BuildError, match=f"no Dask scheduler answers at {address}") as caught,
            ENGINES["dask"](1, (), address),
        ):
            pass
        assert "\n" not in str(caught.value)

    def test_a_killed_worker_is_survived_and_nothing_is_left(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr("tempfile.tempdir", None)
        before = living()
        with ENGINES["dask"](2, ()) as run:
            done = sorted(run(functools.partial(die_once, tmp_path / "killed"), range(8)))
            ports = {c.laddr.port for c in psutil.Process().net_connections() if not c.raddr}
        assert done == list(range(8))
        assert 8787 not in ports  # Dask's dashboard
        assert living() <= before
        assert {path.name for path in tmp_path.iterdir()} <= {"killed", "dask-scratch-space"}
        assert capfd.readouterr() == ("", "")

    @pytest.mark.slow
    def test_a_task_that_kills_every_worker_is_reported(self) -> None:
        with (
            ENGINES["dask"](2, ()) as run,
            pytest.raises(BuildError, match="a worker process died"),
        ):
            list(run(die, range(4)))

    @pytest.mark.slow
    def test_a_probe_names_the_worker_and_what_it_lacks(self, cluster: Cluster) -> None:
        with ENGINES["dask"](1, (), cluster.address) as run:
            assert list(run(abs, [-1], lambda: None)) == [1]
            with pytest.raises(BuildError, match=r"^worker tcp://.*: no soup; worker tcp://"):
                list(run(abs, [-1], no_soup))
            with pytest.raises(BuildError, match=r"KeyError: 3; install shardwell==\d"):
                list(run(abs, [-1], no_package))

    @pytest.mark.slow
    def test_a_worker_without_the_package_and_a_late_one_are_told(self, tmp_path: Path) -> None:
        with started_cluster(tmp_path, workers=0) as cluster:
            bare = cluster.add_worker(package=False)
            with (
                ENGINES["dask"](1, (), cluster.address) as run,
                pytest.raises(BuildError, match=r"No module named .*; install shardwell=="),
            ):
                list(run(abs, [1]))
            bare.kill()
            bare.wait()
            good = cluster.add_worker()
            marker = tmp_path / "late"
            with ENGINES["dask"](1, (), cluster.address) as run:
                results = run(doze, range(40), functools.partial(only_before, marker))
                assert next(results) >= 0
                marker.touch()
                cluster.add_worker()
                with pytest.raises(BuildError, match=r"^worker tcp://.*: came too late$"):
                    list(results)
            assert good.poll() is None

    @pytest.mark.slow
    def test_a_worker_elsewhere_that_is_killed_is_survived(self, tmp_path: Path) -> None:
        with (
            started_cluster(tmp_path, workers=2) as cluster,
            ENGINES["dask"](1, (), cluster.address) as run,
        ):
            results = run(doze, range(12))
            first = next(results)
            cluster.workers[0].kill()
            assert sorted([first, *results]) == list(range(12))

    @pytest.mark.slow
    def test_a_lost_scheduler_is_one_line(self, tmp_path: Path) -> None:
        with (
            started_cluster(tmp_path, workers=1) as cluster,
            ENGINES["dask"](1, (), cluster.address) as run,
        ):
            results = run(doze, range(100))
            next(results)
            cluster.scheduler.kill()
            with pytest.raises(BuildError, match="the Dask scheduler was lost"):
                list(results)

    @pytest.mark.slow
    def test_no_worker_is_one_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pipeline.engines.dask_engine.JOIN", 0.5)
        with (
            started_cluster(tmp_path, workers=0) as cluster,
            ENGINES["dask"](1, (), cluster.address) as run,
            pytest.raises(BuildError, match="no Dask worker has joined within"),
        ):
            list(run(abs, [1]))

    @pytest.mark.slow
    def test_an_interrupt_ends_all_processes_quietly(self, tmp_path: Path) -> None:
        script = tmp_path / "driver.py"
        script.write_text(
            textwrap.dedent(
                """
                from pipeline.engines import ENGINES
                from tests.test_engines import doze
                if __name__ == "__main__":
                    with ENGINES["dask"](2, ()) as run:
                        try:
                            for _ in run(doze, range(1000)):
                                print("begun", flush=True)
                        except KeyboardInterrupt:
                            print("interrupted", flush=True)
                """
            )
        )
        before = living()
        driver = subprocess.Popen(
            [sys.executable, str(script)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert driver.stdout
        assert driver.stdout.readline() == "begun\n"
        os.killpg(driver.pid, signal.SIGINT)  # as a terminal does it
        out, err = driver.communicate(timeout=30)
        assert out.splitlines()[-1] == "interrupted"
        assert (driver.returncode, err) == (0, "")
        assert living() <= before


def no_soup() -> None:
    raise BuildError("no soup")


def no_package() -> None:
    raise KeyError(3)


def only_before(marker: Path) -> None:
    if marker.exists():
        raise BuildError("came too late")


def doze(task: int) -> int:
    time.sleep(0.3)
    return task


def living() -> set[int]:
    """Processes of Python below this one, or orphaned; multiprocessing's tracker stays for good."""
    mine = psutil.Process().children(recursive=True)
    return {p.pid for p in mine if "resource_tracker" not in " ".join(p.cmdline())}
