"""Parts of downloads in the cache: gone on with after a kill, shared, whatever lies there."""

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import OutputError, SourceError
from pipeline.fetch import still_missing
from tests.downloads import DROP, GOOD, TOTAL, bring, part, source, tagged, visible
from tests.servers import DATA, SHA, Act, Server


def test_only_what_is_missing_needs_space(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = server.plays(a=[DROP, Act(b"", 404)])
    with pytest.raises(SourceError):
        bring(urls, tmp_path)
    assert still_missing(source(), tmp_path) == 12_000
    for free, enough in ((11_999, False), (12_000, True)):
        usage = type("Usage", (), {"free": free})()
        monkeypatch.setattr("shutil.disk_usage", lambda path, usage=usage: usage)
        urls = server.plays(b=GOOD)
        if enough:
            assert bring(urls, tmp_path) == DATA
        else:
            with pytest.raises(OutputError, match=r"needs 12,000 bytes, 11,999 are free"):
                bring(urls, tmp_path)


@pytest.mark.parametrize("there", [b"", DATA[:5000], DATA, DATA[::-1], DATA + b"!"])
@pytest.mark.parametrize("note", [None, "{", '{"url": 1}', '["url"]'])
def test_whatever_lies_in_the_cache_is_no_hindrance(
    there: bytes, note: str | None, server: Server, tmp_path: Path
) -> None:
    part(tmp_path).parent.mkdir()
    part(tmp_path).write_bytes(there)
    if note:
        part(tmp_path).with_name(part(tmp_path).name + ".json").write_text(note)
    assert bring(server.plays(a=GOOD), tmp_path) == DATA
    assert len(server.asked) == (0 if there == DATA else 1)


def test_a_full_disk_is_named(server: Server, tmp_path: Path) -> None:
    part(tmp_path).parent.mkdir()
    part(tmp_path).symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as caught:
        bring(server.plays(a=GOOD), tmp_path)
    assert caught.value.filename == os.fspath(part(tmp_path))


def test_the_bar_begins_where_the_part_ends(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars: list[tuple[int, int]] = []

    def byte_bar(what: str, total: int, progress: bool, done: int = 0) -> Any:
        from pipeline.fetch.bars import byte_bar as real

        bars.append((done, total))
        return real(what, total, progress, done)

    monkeypatch.setattr("pipeline.fetch.receiving.byte_bar", byte_bar)
    bring(server.plays(a=[DROP, GOOD]), tmp_path)
    assert bars == [(0, 17_000), (5000, 17_000)]


def client(url: str, cache: Path) -> "subprocess.Popen[str]":
    """Another process that brings the source; it prints the bytes' sha256."""
    script = f"""
        from pathlib import Path
        import pipeline.fetch.receiving
        from pipeline.fetch import fetch
        from pipeline.manifest import Source
        pipeline.fetch.receiving.PIECE = 1000
        source = Source("main", "x.bin", {TOTAL}, {SHA!r}, ({url!r},))
        print(fetch(source, Path({os.fspath(cache)!r}), None, False, False).sha256)
        """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_killed_download_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    acts = [tagged(a, '"v1"') for a in (replace(GOOD, stall_after=12_000), GOOD)]
    (url,) = server.plays(a=acts)
    with client(url, tmp_path) as killed:
        until(lambda: part(tmp_path).is_file() and part(tmp_path).stat().st_size >= 8000)
        killed.kill()
    there = part(tmp_path).stat().st_size
    assert json.loads(part(tmp_path).with_name(part(tmp_path).name + ".json").read_text()) == {
        "url": url,
        "validator": '"v1"',
    }
    assert bring([url], tmp_path) == DATA
    assert server.asked[1].range == f"bytes={there}-"
    assert server.asked[1].if_range == '"v1"'
    assert len(server.asked) == 2
    assert visible(tmp_path) == [f"{SHA[:16]}-x.bin"]


def test_two_processes_share_one_download(server: Server, tmp_path: Path) -> None:
    (url,) = server.plays(a=[replace(GOOD, hold=True), Act(b"", 404)])
    with client(url, tmp_path) as first:
        until(lambda: bool(server.asked))
        with client(url, tmp_path) as second:
            assert second.stderr
            line = second.stderr.readline()
            assert "x.bin: another process is at work on it; waiting for its end" in line
            server.go_on.set()
            assert second.communicate()[0].strip() == SHA
        assert first.communicate() == (f"{SHA}\n", "")
    assert len(server.asked) == 1
