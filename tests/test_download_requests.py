"""What a download asks of a server: the same version, when it is told to, and only safely."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from pipeline.errors import SourceError
from pipeline.fetch.partial import strong_validator
from pipeline.fetch.server import retry_after
from tests.downloads import DROP, GOOD, bring, tagged
from tests.servers import DATA, Act, Server


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
