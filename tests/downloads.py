"""One file on a loopback server: how it is sent, how it is brought, what lies in the cache."""

from dataclasses import replace
from pathlib import Path

from pipeline.fetch import fetch
from pipeline.manifest import Source
from tests.servers import DATA, SHA, Act

TOTAL = len(DATA)
GOOD = Act(DATA)
DROP = Act(DATA, drop_after=5000)
OTHER = Act(DATA[::-1])  # another file of the same size


def source(*urls: str) -> Source:
    """The file, at these mirrors."""
    return Source("main", "x.bin", TOTAL, SHA, urls)


def bring(urls: list[str], cache: Path) -> bytes:
    """Its bytes, as they were brought."""
    return fetch(source(*urls), cache, None, False, progress=False).path.read_bytes()


def part(cache: Path) -> Path:
    """Where it lies until it is whole."""
    return cache / "downloads" / f"{SHA[:16]}-x.bin.part"


def visible(cache: Path) -> list[str]:
    """What lies in the cache of downloads, but locks."""
    return sorted(p.name for p in (cache / "downloads").iterdir() if p.name[0] != ".")


def tagged(act: Act, etag: str) -> Act:
    """The act, naming a version of its file."""
    return replace(act, headers={**act.headers, "ETag": etag})
