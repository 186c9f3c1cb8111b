"""Fetching from a loopback server: verified, mirrored, set aside when wrong."""

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import OutputError, SourceError
from pipeline.fetch import Verified, at_hand, fetch, generate, generated_path
from pipeline.files import alone
from pipeline.manifest import Source
from tests.servers import DATA, HTML, SHA, Act, Server


def source(*urls: str) -> Source:
    return Source("main", "x.bin", len(DATA), SHA, urls)


def bring(
    source: Source, cache: Path, given: Path | None = None, offline: bool = False
) -> Verified:
    found = fetch(source, cache, given, offline, progress=False)
    found.prove()
    return found


def test_a_download_is_verified_and_kept(server: Server, tmp_path: Path) -> None:
    wanted = source(*server.plays(good=Act(DATA)))
    found = bring(wanted, tmp_path)
    assert found.sha256 == SHA
    assert found.path.read_bytes() == DATA
    assert bring(wanted, tmp_path) == found
    assert bring(source(), tmp_path, offline=True) == found
    assert server.paths == ["good"]
    assert [p for p in (tmp_path / "downloads").iterdir() if p.name[0] != "."] == [found.path]


def test_mirrors_are_tried_in_order(server: Server, tmp_path: Path) -> None:
    urls = server.plays(
        forbidden=Act(b"no", 403),
        gone=Act(b"gone", 404),
        html=Act(HTML),
        wrong=Act(DATA[:-1] + b"X"),
        long=Act(DATA * 5),
        good=Act(DATA),
    )
    assert bring(source(*urls), tmp_path).path.read_bytes() == DATA
    assert server.paths == ["forbidden", "gone", "html", "wrong", "long", "good"]


def test_when_no_mirror_serves_the_bytes_each_is_named(server: Server, tmp_path: Path) -> None:
    urls = server.plays(gone=Act(b"", 404), wrong=Act(DATA[::-1]), html=Act(HTML))
    with pytest.raises(SourceError) as caught:
        bring(source(*urls), tmp_path)
    message = str(caught.value)
    assert "/gone: the server answered 404 Not Found" in message
    assert f"/wrong: expected {len(DATA):,} bytes with sha256 {SHA}" in message
    assert "/html: expected the file, got an HTML page" in message
    assert "--source main=FILE" in message
    assert "\n" not in message
    (bad,) = (p for p in (tmp_path / "downloads").iterdir() if p.name[0] != ".")
    assert bad.name == f"{SHA[:16]}-x.bin.bad"
    assert bad.read_bytes() == DATA[::-1]
    assert f"kept as {bad}" in message


def test_a_dead_server_is_one_line(server: Server, tmp_path: Path) -> None:
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
    server.plays(good=Act(DATA))
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
    assert not [p for p in (tmp_path / "generated").iterdir() if p.suffix != ".lock"]
    found = generate(source(), tmp_path, {"k": 1}, make, progress=False)
    assert generate(source(), tmp_path, {"k": 1}, make, progress=False) == found
    assert len(made) == 1
    generate(source(), tmp_path, {"k": 2}, make, progress=False)
    assert len(made) == 2


def test_two_that_generate_share_one_making(tmp_path: Path, one_waits: threading.Event) -> None:
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        assert one_waits.wait(5)
        path.write_bytes(DATA)

    def run() -> Verified:
        return generate(source(), tmp_path, {"k": 1}, make, progress=False)

    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(run) for _ in range(2))
        assert first.result() == second.result()
    assert len(made) == 1


def test_what_killed_runs_left_is_removed_unless_in_use(tmp_path: Path) -> None:
    folder = tmp_path / "generated"
    folder.mkdir()

    def make(path: Path) -> None:
        path.write_bytes(DATA)

    own = generated_path(source(), tmp_path, {"k": 1}).name
    names = {
        "own": f".{own}.99.part",
        "stranger": ".dead.bin.99.part",
        "used": ".alive.bin.99.part",
        "used, too": ".dead.bin.tar.99.part",
        "no lock": ".unknown.bin.99.part",
        "download": "0123-x.bin.part",
    }
    for name in names.values():
        (folder / name).write_bytes(b"half")
    (folder / ".dead.bin.lock").touch()
    with alone(folder / "alive.bin"), alone(folder / "dead.bin.tar"):
        for name in ("used", "used, too"):
            (folder / names[name]).write_bytes(b"half")
        (folder / names["own"]).write_bytes(b"half")
        (folder / names["stranger"]).write_bytes(b"half")
        generate(source(), tmp_path, {"k": 1}, make, progress=False)
        left = {key for key, name in names.items() if (folder / name).exists()}
        assert left == {"used", "used, too", "no lock", "download"}
