"""Streams that fail: one line that says why, the batches before it, and the rest once mended."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline.errors import DatasetError, RemoteError, UnknownNameError, UsageError
from pipeline.loader import stream
from tests.conftest import ROOT
from tests.stores import Counted
from tests.streams import BATCH, ROWS, flat, keys

FIFTH = 76  # the first row of the fifth shard


class TestErrors:
    def test_a_missing_or_truncated_shard_is_found_at_open(self, counted: str) -> None:
        store, path = fsspec.core.url_to_fs(f"{counted}/train-00004-of-00013.arrow")
        data = store.cat_file(path)
        store.pipe_file(path, data[:-5])
        with pytest.raises(DatasetError, match=r"train-00004-of-00013.arrow: expected .* bytes, g"):
            stream(counted, "train", BATCH)
        store.rm_file(path)
        with pytest.raises(DatasetError, match=r"train-00004-of-00013.arrow: the shard is missing"):
            stream(counted, "train", BATCH)

    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize(
        ("harm", "error", "message"),
        [
            ("flipped", DatasetError, "train-00005-of-00013.arrow: expected sha256 .*, got"),
            ("truncated", DatasetError, "train-00005-of-00013.arrow: expected .* bytes, got"),
            ("missing", DatasetError, "train-00005-of-00013.arrow: the shard is missing"),
            ("lost", RemoteError, "train-00005-of-00013.arrow: connection lost"),
        ],
    )
    def test_the_batch_that_needs_a_bad_shard_says_so(
        self,
        counted: str,
        tmp_path: Path,
        workers: int,
        harm: str,
        error: type[Exception],
        message: str,
    ) -> None:
        """It is fetched ahead; the batches before it are served, and after mending all the rest."""
        loader = stream(counted, "train", BATCH, key=True, cache=tmp_path, num_workers=workers)
        store, path = fsspec.core.url_to_fs(f"{counted}/train-00005-of-00013.arrow")
        good = store.cat_file(path)
        store.pipe_file(path, {"flipped": good[:-1] + b"?", "truncated": good[:-1]}.get(harm, good))
        if harm == "missing":
            store.rm_file(path)
        if harm == "lost":
            Counted.breaks.add("train-00005-of-00013")
        with pytest.raises(error, match=message) as caught:
            list(loader)
        assert "\n" not in str(caught.value)
        served = loader.state_dict()["batch"]
        assert served == FIFTH // BATCH
        left = {path.suffix for path in (tmp_path / "streamed").glob("*train-00005*")}
        # A worker is ended in the midst of what it fetches ahead.
        assert left <= ({".lock", ".part"} if workers else {".lock"})
        Counted.breaks.clear()
        store.pipe_file(path, good)
        loader.load_state_dict(loader.state_dict())
        rest = flat(keys(loader))
        assert rest == [f"{n:08d}" for n in range(served * BATCH, ROWS)]

    def test_a_cache_that_can_not_be_written_is_one_line(
        self, counted: str, tmp_path: Path
    ) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(RemoteError, match=r"can't keep .* bytes of train-00000-of-00013 here"):
            next(iter(stream(counted, "train", BATCH, cache=tmp_path / "file")))

    def test_a_full_disk_is_one_line_and_leaves_nothing(
        self, numbered_dataset: Path, tmp_path: Path
    ) -> None:
        """A limit on the size of files fails as a full disk does, in the middle of writing."""
        resource = pytest.importorskip("resource")
        code = (
            "import resource, sys; from pipeline.loader import stream\n"
            "loader = stream(sys.argv[1], 'train', 7, cache=sys.argv[2])\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
            "try: next(iter(loader))\n"
            "except Exception as error: print(type(error).__name__, error)\n"
        )
        assert resource
        command = [sys.executable, "-c", code, f"file://{numbered_dataset}", str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        (line,) = done.stdout.splitlines()
        assert line.startswith(f"RemoteError {tmp_path}/streamed: can't keep ")
        assert "choose another folder with cache=" in line
        assert not list(tmp_path.rglob("*.arrow")) + list(tmp_path.rglob("*.part"))

    def test_wrong_arguments_are_told(
        self, numbered_dataset: Path, counted: str, tmp_path: Path
    ) -> None:
        cases: list[tuple[dict[str, Any], type[Exception], str]] = [
            ({"split": "dev"}, UnknownNameError, "unknown split of .* 'dev'"),
            ({"labels": ["words"]}, UnknownNameError, "unknown label of .* 'words'"),
            ({"batch_size": 0}, UsageError, "batch_size=0: expected a whole number, at least 1"),
            ({"seed": -1}, UsageError, "seed=-1: expected 0 to"),
            ({"rank": 1}, UsageError, "rank=1, world_size=None: expected both or neither"),
            ({"rank": 0, "world_size": 14}, UsageError, "world_size=14: expected at most 13"),
            ({"cache_bytes": 100}, UsageError, "cache_bytes=100: expected at least .*, one shard"),
        ]
        for changes, error, message in cases:
            with pytest.raises(error, match=message):
                stream(**({"where": counted, "split": "train", "batch_size": 7} | changes))
        with pytest.raises(DatasetError, match="expected a sealed dataset"):
            stream(tmp_path, "train", 7)
