"""Fetching from a loopback server: verified, mirrored, set aside when wrong."""

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.errors import OutputError, SourceError
from pipeline.fetch import Verified, at_hand, fetch, generate
from pipeline.manifest import Source

DATA = b"the pinned bytes " * 1000
SHA = hashlib.sha256(DATA).hexdigest()
HTML = b"<!DOCTYPE html><html>try again later</html>"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        code, body = {
            "/good": (200, DATA),
            "/wrong": (200, DATA[:-1] + b"X"),
            "/long": (200, DATA * 5),
            "/html": (200, HTML),
            "/forbidden": (403, b"no"),
        }.get(self.path, (404, b"gone"))
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have seen enough
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    asked: list[str]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{path}"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def source(*urls: str) -> Source:
    return Source("main", "x.bin", len(DATA), SHA, urls)


def bring(
    source: Source, cache: Path, given: Path | None = None, offline: bool = False
) -> Verified:
    return fetch(source, cache, given, offline, progress=False)


def test_a_download_is_verified_and_kept(server: Server, tmp_path: Path) -> None:
    found = bring(source(server.url("good")), tmp_path)
    assert found.sha256 == SHA
    assert found.path.read_bytes() == DATA
    assert bring(source(server.url("good")), tmp_path) == found
    assert bring(source(), tmp_path, offline=True) == found
    assert server.asked == ["/good"]
    assert not list(tmp_path.rglob("*.part"))


def test_mirrors_are_tried_in_order(server: Server, tmp_path: Path) -> None:
    urls = [server.url(p) for p in ("forbidden", "gone", "html", "wrong", "long", "good")]
    assert bring(source(*urls), tmp_path).path.read_bytes() == DATA
    assert server.asked == ["/forbidden", "/gone", "/html", "/wrong", "/long", "/good"]


def test_when_no_mirror_serves_the_bytes_each_is_named(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        bring(source(server.url("gone"), server.url("wrong"), server.url("html")), tmp_path)
    message = str(caught.value)
    assert "the server answered 404 Not Found" in message
    assert f"expected {len(DATA):,} bytes with sha256 {SHA}" in message
    assert "(it is an HTML page)" in message
    assert "--source main=FILE" in message
    assert "\n" not in message
    assert [p.name for p in (tmp_path / "downloads").iterdir()] == ["x.bin.bad"]


def test_a_dead_server_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no connection to that host") as caught:
        bring(source("http://127.0.0.1:9/x"), tmp_path)
    assert "\n" not in str(caught.value)


def test_offline_never_asks(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="--offline forbids a download"):
        bring(source(server.url("good")), tmp_path, offline=True)
    assert at_hand(source(server.url("good")), tmp_path, None, progress=False) is None
    assert server.asked == []


def test_a_given_file_is_checked_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "mine.bin"
    file.write_bytes(DATA)
    assert bring(source(), tmp_path / "cache", given=file).path == file
    for wrong, expected in ((DATA + b"!", "expected 17,000 bytes, got 17,001"), (DATA[::-1], SHA)):
        file.write_bytes(wrong)
        with pytest.raises(SourceError, match=expected):
            bring(source(), tmp_path / "cache", given=file)
        assert file.exists()  # somebody's own file is never moved
    with pytest.raises(SourceError, match="expected a file, got none there"):
        bring(source(), tmp_path / "cache", given=tmp_path / "none")


def test_a_cached_file_that_went_bad_is_set_aside(server: Server, tmp_path: Path) -> None:
    found = bring(source(server.url("good")), tmp_path)
    found.path.write_bytes(HTML)
    with pytest.raises(SourceError, match=r"HTML page.*set aside as .*\.bad"):
        bring(source(), tmp_path, offline=True)
    assert bring(source(server.url("good")), tmp_path).path.read_bytes() == DATA


def test_a_verified_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.bin"
    file.write_bytes(DATA)
    bring(source(), tmp_path / "cache", given=file)
    real, hashed = hashlib.sha256, []
    monkeypatch.setattr("hashlib.sha256", lambda data=b"": hashed.append(len(data)) or real(data))
    bring(source(), tmp_path / "cache", given=file)
    assert hashed == [len(str(file))]  # the note's name alone, not the file
    for note in (tmp_path / "cache" / "verified").iterdir():
        note.write_text("[not ours")
    assert bring(source(), tmp_path / "cache", given=file).sha256 == SHA


def test_no_space_is_told_before_the_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "shutil.disk_usage", lambda path: type("Usage", (), {"free": len(DATA) - 1})()
    )
    with pytest.raises(OutputError, match=r"x\.bin needs 17,000 bytes, 16,999 are free"):
        bring(source(server.url("good")), tmp_path)
    assert server.asked == []


def test_generated_files_are_made_once_and_never_half(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        path.write_bytes(DATA)

    def fail(path: Path) -> None:
        path.write_bytes(DATA[:10])
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        generate(source(), tmp_path, {"k": 1}, fail, progress=False)
    assert not any((tmp_path / "generated").iterdir())
    found = generate(source(), tmp_path, {"k": 1}, make, progress=False)
    assert generate(source(), tmp_path, {"k": 1}, make, progress=False) == found
    assert len(made) == 1
    generate(source(), tmp_path, {"k": 2}, make, progress=False)
    assert len(made) == 2
