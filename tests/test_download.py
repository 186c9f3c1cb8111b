"""Downloads from servers that behave badly: the right bytes, or one clear line."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import SourceError
from tests.downloads import DROP, GOOD, OTHER, TOTAL, bring, part, tagged, visible
from tests.servers import CLOSE, DATA, HTML, SHA, Act, Server

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
    "no URL": (Act(b"", 302, {"Location": "http://[bad"}), "its answer makes no sense: "),
    "no UTF-8": (Act(b"", 302, {"Location": "http://\xff/"}), "its answer makes no sense: "),
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
