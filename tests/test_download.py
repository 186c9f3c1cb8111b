"""Downloads from servers that behave badly: the right bytes, or one clear line."""

import io
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
import requests

from pipeline.errors import OutputError, SourceError
from pipeline.fetch import fetch, still_missing
from pipeline.fetch.partial import strong_validator
from pipeline.fetch.server import retry_after
from pipeline.manifest import Source
from tests.servers import CLOSE, DATA, HTML, SHA, Act, Server

TOTAL = len(DATA)
GOOD = Act(DATA)
DROP = Act(DATA, drop_after=5000)
OTHER = Act(DATA[::-1])  # another file of the same size


def source(*urls: str) -> Source:
    return Source("main", "x.bin", TOTAL, SHA, urls)


def bring(urls: list[str], cache: Path) -> bytes:
    return fetch(source(*urls), cache, None, False, progress=False).path.read_bytes()


def part(cache: Path) -> Path:
    return cache / "downloads" / f"{SHA[:16]}-x.bin.part"


def visible(cache: Path) -> list[str]:
    return sorted(p.name for p in (cache / "downloads").iterdir() if p.name[0] != ".")


def tagged(act: Act, etag: str) -> Act:
    return replace(act, headers={**act.headers, "ETag": etag})


# What a server does at each request → what it was asked for: None for all, 5000 for the rest.
RECOVERIES: dict[str, tuple[list[Act], list[int | None]]] = {
    "hangs up": ([DROP, GOOD], [None, 5000]),
    "hangs up often": (
        [replace(GOOD, drop_after=1000)] * 16 + [GOOD],
        [None, *range(1000, 17000, 1000)],
    ),
    "stalls": ([replace(GOOD, stall_after=5000), GOOD], [None, 5000]),
    "stalls before the answer's body": ([replace(GOOD, stall_after=0), GOOD], [None, None]),
    "ends early, no length": (
        [replace(DROP, content_length=CLOSE), replace(GOOD, content_length=CLOSE)],
        [None, 5000],
    ),
    "ignores Range": ([DROP, replace(GOOD, ranges=False)], [None, 5000]),
    "ignores Range and hangs up later": (
        [replace(GOOD, ranges=False, drop_after=n) for n in (5000, 9000)] + [GOOD],
        [None, 5000, 9000],
    ),
    "ignores Range and hangs up earlier": (
        [replace(GOOD, ranges=False, drop_after=n) for n in (5000, 3000)] + [GOOD],
        [None, 5000, 5000],  # the same bytes written over: nothing lost
    ),
    "another begin": ([DROP, replace(GOOD, content_range="bytes 0-9/17000")], [None, 5000, None]),
    "another length": (
        [DROP, replace(GOOD, content_range="bytes 5000-17999/18000"), GOOD],
        [None, 5000, None],
    ),
    "an unknown length": (
        [DROP, replace(GOOD, content_range="bytes 5000-16999/*"), GOOD],
        [None, 5000, None],
    ),
    "a nonsense range": ([DROP, replace(GOOD, content_range="all"), GOOD], [None, 5000, None]),
    "416": ([DROP, Act(b"", 416), GOOD], [None, 5000, None]),
    "a changed file": (
        [tagged(replace(OTHER, drop_after=5000), '"1"'), tagged(GOOD, '"2"')],
        [None, 5000],
    ),
    "a changed file, hangs up earlier": (
        [
            tagged(replace(OTHER, drop_after=9000), '"1"'),
            tagged(DROP, '"2"'),
            tagged(GOOD, '"2"'),
        ],
        [None, 9000, 5000],  # nothing of the old file is left between
    ),
    "a changed file and no version": (
        [replace(OTHER, drop_after=5000), GOOD],
        [None, 5000, None],
    ),
    "a changed file, If-Range ignored": (
        [
            tagged(replace(OTHER, drop_after=5000), '"1"'),
            replace(tagged(GOOD, '"2"'), if_range=False),
        ],
        [None, 5000, None],
    ),
    "gzip unasked": ([replace(GOOD, zipped=True)], [None]),
    "gzip unasked, hangs up": (
        [replace(GOOD, zipped=True, drop_after=9000), replace(GOOD, ranges=False, zipped=True)],
        [None, 8000],
    ),
    "only called gzip": ([replace(GOOD, headers={"Content-Encoding": "gzip"})], [None]),
    "chunked": ([replace(GOOD, content_length="chunked")], [None]),
    "500 once": ([Act(b"", 500), GOOD], [None, None]),
    "503 three times": ([Act(b"", 503)] * 3 + [GOOD], [None] * 4),
    "429 with Retry-After": ([Act(b"", 429, {"Retry-After": "0"}), GOOD], [None, None]),
    "503 between": ([DROP, Act(b"", 503), GOOD], [None, 5000, 5000]),
    "redirects": ([Act(b"", 302, {"Location": "/a"}), GOOD], [None, None]),
}


@pytest.mark.parametrize("case", RECOVERIES)
def test_a_download_recovers(case: str, server: Server, tmp_path: Path) -> None:
    acts, asked = RECOVERIES[case]
    urls = server.plays(a=acts)
    assert bring(urls, tmp_path) == DATA
    assert server.ranges == [None if n is None else f"bytes={n}-" for n in asked]
    assert visible(tmp_path) == [f"{SHA[:16]}-x.bin"]


# What a server does always → what is told of it.
FAILURES: dict[str, tuple[Act, str]] = {
    "403": (Act(b"no", 403), "the server answered 403 Forbidden"),
    "404": (Act(HTML, 404), "the server answered 404 Not Found"),
    "204": (Act(b"", 204), "the server answered 204 No Content"),
    "500": (Act(b"", 500), "the server answered 500 Internal Server Error"),
    "503, busy for long": (
        Act(b"", 503, {"Retry-After": "3600"}),
        "the server answered 503 Service Unavailable and asks to come back in 3,600 s",
    ),
    "416": (Act(b"", 416), "the server answered 416 with another part"),
    "HTML": (Act(HTML), "expected the file, got an HTML page"),
    "HTML in chunks": (Act(HTML, content_length="chunked"), "got an HTML page"),
    "HTML of the right size": (Act(HTML.ljust(TOTAL)), "got an HTML page"),
    "HTML, zipped": (Act(HTML, zipped=True), "got an HTML page"),
    "wrong bytes": (OTHER, f"expected 17,000 bytes with sha256 {SHA}, got 17,000 with "),
    "wrong bytes in two pieces": (replace(OTHER, drop_after=9000), "got 17,000 with "),
    "a shorter file": (Act(DATA[:-1]), "expected 17,000 bytes, its file has 16,999"),
    "a longer file": (Act(DATA + b"!"), "expected 17,000 bytes, its file has 17,001"),
    "length too small": (replace(GOOD, content_length="16999"), "its file has 16,999"),
    "length too great": (replace(GOOD, content_length="17001"), "its file has 17,001"),
    "a longer file in chunks": (Act(DATA * 2, content_length="chunked"), "got more than 17,000"),
    "a longer file without an end": (
        Act(DATA * 2, content_length=CLOSE, stall_after=20_000),
        "got more than 17,000",
    ),
    "a shorter file in chunks": (Act(DATA[:99], content_length="chunked"), "got 99; kept as"),
    "no gzip": (
        Act(DATA, headers={"Content-Encoding": "gzip"}, content_length="chunked"),
        "its compressed answer can't be decoded",
    ),
    "a circle": (Act(b"", 302, {"Location": "/a"}), "it redirects in a circle"),
    "another scheme": (
        Act(b"", 302, {"Location": "ftp://127.0.0.1/a"}),
        "only http and https are downloaded from",
    ),
    "never a byte": (replace(GOOD, stall_after=0), "no answer within 0.5 s"),
    "hangs up at once": (replace(GOOD, drop_after=0), "the connection was lost"),
    "ends at once, no length": (
        replace(GOOD, content_length=CLOSE, drop_after=0),
        "the answer ended at byte 0 of 17,000",
    ),
    "never more": (
        replace(GOOD, ranges=False, drop_after=5000),
        "the connection was lost; 5,000 of 17,000 bytes are kept, the same command goes on; or",
    ),
}
ENDINGS = "fetch it by hand and give it with --source main=FILE"


@pytest.mark.parametrize("case", FAILURES)
def test_a_download_in_vain_is_one_line(case: str, server: Server, tmp_path: Path) -> None:
    act, told = FAILURES[case]
    (url,) = server.plays(a=act)
    with pytest.raises(SourceError) as caught:
        bring([url], tmp_path)
    message = str(caught.value)
    assert message.startswith(f"x.bin: could not be downloaded: {url}: ")
    assert told in message
    assert message.endswith(ENDINGS)
    assert "\n" not in message
    assert not (tmp_path / "downloads" / f"{SHA[:16]}-x.bin").exists()
    assert len(server.asked) <= 31  # requests follows 30 redirects


def test_a_mirror_that_stays_away_is_told_of_once(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    urls = server.plays(a=Act(b"", 503), b=[Act(b"", 503), Act(b"", 500)])
    with pytest.raises(SourceError):
        bring(urls, tmp_path)
    assert len(server.asked) == 8
    told = [record.getMessage() for record in caplog.records]
    assert [url for line in told for url in urls if url in line] == [*urls, urls[1]]


@pytest.mark.parametrize("case", FAILURES)
def test_then_the_next_mirror_is_asked(case: str, server: Server, tmp_path: Path) -> None:
    urls = server.plays(a=FAILURES[case][0], b=GOOD)
    assert bring(urls, tmp_path) == DATA
    assert server.paths.count("b") <= 2  # twice where the part of the first mirror was no good


# What can be told before a byte is written.
SEEN_AT_ONCE = [
    "403",
    "404",
    "204",
    "500",
    "416",
    "HTML",
    "HTML in chunks",
    "HTML of the right size",
    "HTML, zipped",
    "a shorter file",
    "a longer file",
    "no gzip",
    "a circle",
    "never a byte",
    "never more",
]


@pytest.mark.parametrize("case", SEEN_AT_ONCE)
def test_a_good_part_outlives_a_bad_mirror(case: str, server: Server, tmp_path: Path) -> None:
    lost = replace(GOOD, drop_after=7000)
    bad = replace(FAILURES[case][0], ranges=False)
    urls = server.plays(b=[lost, Act(b"", 404)], a=bad)
    with pytest.raises(SourceError, match="7,000 of 17,000 bytes are kept, the same command"):
        bring(urls, tmp_path)
    assert part(tmp_path).read_bytes() == DATA[:7000]
    server.plays(c=GOOD)
    assert bring([server.url("c")], tmp_path) == DATA
    assert server.ranges[-1] == "bytes=7000-"
    assert visible(tmp_path) == [f"{SHA[:16]}-x.bin"]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"ETag": '"v1"'}, '"v1"'),
        ({"ETag": 'W/"v1"'}, None),
        ({"Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}, "Mon, 02 Nov 2026 10:00:00 GMT"),
        ({"ETag": 'W/"v1"', "Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}, "Mon, 02 Nov"),
        ({}, None),
    ],
)
def test_if_range_holds_what_names_the_version(
    headers: dict[str, str], expected: str | None, server: Server, tmp_path: Path
) -> None:
    assert bring(server.plays(a=[replace(a, headers=headers) for a in (DROP, GOOD)]), tmp_path)
    first, second = server.asked
    assert first.if_range is None
    assert second.if_range == expected or (expected and str(second.if_range).startswith(expected))
    assert second.range == "bytes=5000-"


def test_versions_of_one_mirror_mean_nothing_to_another(server: Server, tmp_path: Path) -> None:
    lost = [tagged(DROP, '"a"'), Act(b"", 404)]
    assert bring(server.plays(a=lost, b=tagged(GOOD, '"b"')), tmp_path) == DATA
    assert [(asked.path, asked.range, asked.if_range) for asked in server.asked] == [
        ("a", None, None),
        ("a", "bytes=5000-", '"a"'),
        ("b", "bytes=5000-", None),
    ]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT"}, ""),  # no Date to compare with
        ({"Last-Modified": "Mon, 02 Nov 2026 10:00:00 GMT", "Date": "soon"}, ""),
        (dict.fromkeys(("Last-Modified", "Date"), "Mon, 02 Nov 2026 10:00:00 GMT"), ""),
        ({"Last-Modified": "yesterday", "Date": "Mon, 02 Nov 2026 10:00:00 GMT"}, ""),
    ],
)
def test_a_doubtful_date_is_no_validator(headers: dict[str, str], expected: str) -> None:
    assert strong_validator(headers) == expected


def test_retry_after_is_kept_to(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("pipeline.fetch.download.time.sleep", slept.append)
    busy = Act(b"", 503, {"Retry-After": "7"})
    assert bring(server.plays(a=[busy, Act(b"", 503), Act(b"", 503), GOOD]), tmp_path) == DATA
    assert slept == [7, 0.01, 0.01]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, 0),
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "9" * 5000}, 999_999_999),
        ({"Retry-After": "-5"}, 0),
        (
            {
                "Retry-After": "Mon, 02 Nov 2026 10:01:30 GMT",
                "Date": "Mon, 02 Nov 2026 10:00:00 GMT",
            },
            90,
        ),
        ({"Retry-After": "Mon, 02 Nov 2026 10:01:30 GMT"}, 0),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], expected: int) -> None:
    assert retry_after(headers) == expected


def test_progress_gives_new_patience(server: Server, tmp_path: Path) -> None:
    """Three fruitless rounds end a download; here are six, with new bytes between."""
    busy = [Act(b"", 503)] * 3
    acts = [*busy, DROP, *busy, replace(GOOD, drop_after=1000), *busy, GOOD]
    assert bring(server.plays(a=acts), tmp_path) == DATA
    with pytest.raises(SourceError):
        bring(server.plays(b=[*busy, Act(b"", 503), GOOD]), tmp_path / "other")


def test_never_from_https_down_to_http(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The https server is a stand-in; all that follows its redirect is requests itself."""
    (down,) = server.plays(a=GOOD)

    def send(self: Any, request: requests.PreparedRequest, **_: object) -> requests.Response:
        answer = requests.Response()
        answer.status_code, answer.url, answer.request = 302, str(request.url), request
        answer.headers["Location"] = down
        answer.raw = io.BytesIO()
        return answer

    real = requests.Session.get_adapter

    def get_adapter(session: requests.Session, url: str) -> Any:
        adapter = real(session, url)
        if url.startswith("https:"):
            monkeypatch.setattr(adapter, "send", send.__get__(adapter))
        return adapter

    monkeypatch.setattr(requests.Session, "get_adapter", get_adapter)
    with pytest.raises(SourceError, match=r"it redirects from https to http://127.*, which is not"):
        bring(["https://127.0.0.1/x"], tmp_path)
    assert server.asked == []


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
