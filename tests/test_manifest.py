"""Manifests: the shipped ones hold, and every mistake of a bad one is reported at once."""

from pathlib import Path

import pytest

from pipeline.errors import ManifestError, UnknownNameError
from pipeline.manifest import load_manifest

ROOT = Path(__file__).parent.parent
NO_ADDRESS = ("fsdd",)  # brought with --source: nobody serves this very file

GOOD = """
name = "x"
title = "X"
licence = "CC0"
homepage = "https://example.org"
citation = "X."
[sources.a]
file = "a.tar"
bytes = 3
sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
urls = ["https://example.org/a.tar"]
[protocols.p]
about = "All."
sources.main = "a"
params = { n = 3, words = ["yes"] }
splits = { train = 5, test = "unpinned" }
"""


def read(tmp_path: Path, text: str) -> str:
    """The message for a bad manifest."""
    path = tmp_path / "x.toml"
    path.write_text(text)
    with pytest.raises(ManifestError) as caught:
        load_manifest(path)
    return str(caught.value)


def test_a_good_manifest_becomes_values(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text(GOOD)
    manifest = load_manifest(path)
    assert manifest.sources["a"].bytes == 3
    assert manifest.redistribution == "unknown"
    protocol = manifest.protocol(None)
    assert protocol.splits == {"train": 5, "test": None}
    assert protocol.params == {"n": 3, "words": ["yes"]}
    with pytest.raises(UnknownNameError, match="unknown protocol of x 'q': expected one of p"):
        manifest.protocol("q")


@pytest.mark.parametrize(
    "path", sorted((ROOT / "manifests").glob("*.toml")), ids=lambda path: path.stem
)
def test_shipped_manifests_hold(path: Path) -> None:
    manifest = load_manifest(path)
    assert manifest.name == path.stem
    assert (ROOT / "recipes" / f"{path.stem}.py").is_file()
    for source in manifest.sources.values():
        assert source.generated or (source.sha256 and source.bytes)
        assert source.generated or source.urls or manifest.name in NO_ADDRESS


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        (('name = "x"', 'name = "X y"'), "name: expected a lower-case name, got 'X y'"),
        (('title = "X"', ""), "title: missing; expected a text"),
        (('licence = "CC0"', "licence = 3"), "licence: expected a text, got 3"),
        (
            ('licence = "CC0"', 'licence = "CC0"\nredistribution = "maybe"'),
            "redistribution: expected one of allowed, forbidden, unknown, got 'maybe'",
        ),
        (("bytes = 3", "bytes = -3"), "sources.a.bytes: expected a whole number of bytes, got -3"),
        (("bytes = 3", ""), "sources.a.bytes: missing; every file from outside is pinned"),
        (('sha256 = "ba', 'sha256 = "BA'), "sources.a.sha256: expected 64 lower-case hex digits"),
        (('"a.tar"', '"../a.tar"'), "sources.a.file: expected a plain file name"),
        (("https://example.org/a", "file:///a"), "sources.a.urls: expected a list of http(s) URLs"),
        (('main = "a"', 'main = "b"'), "no source 'b' in this manifest (known: a)"),
        (("train = 5", "dev = 5"), "protocols.p.splits.dev: expected one of train, validation"),
        (("train = 5", "noise = 5"), "splits.noise: expected one of train, validation, test"),
        (("train = 5", "train = 1.5"), 'expected a table of split = count or "unpinned"'),
        (("about =", "abuot ="), "protocols.p.abuot: not a known field"),
        (("[protocols.p]", "[protocols.P]"), "protocols.P: expected a lower-case name"),
        (("[sources.a]", "[sources]\na = 3\n[sources.c]"), "sources.a.: expected a table, got 3"),
    ],
)
def test_each_mistake_is_named(tmp_path: Path, change: tuple[str, str], mistake: str) -> None:
    assert change[0] in GOOD
    assert mistake in read(tmp_path, GOOD.replace(*change, 1))


def test_three_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    text = GOOD.replace('title = "X"', "").replace("bytes = 3", "bytes = 'many'")
    message = read(tmp_path, text.replace("train = 5", "dev = 5"))
    assert "x.toml: 3 mistakes to mend\n" in message
    for part in ("title: missing", "sources.a.bytes", "splits.dev"):
        assert part in message


@pytest.mark.parametrize("text", ["= 3", "name = ", "\x00"])
def test_what_is_no_toml_is_one_line(tmp_path: Path, text: str) -> None:
    message = read(tmp_path, text)
    assert "not readable as TOML" in message
    assert "\n" not in message


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="expected a manifest here, got no such file"):
        load_manifest(tmp_path / "none.toml")
