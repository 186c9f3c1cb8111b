"""What the documents say is true: every command and snippet runs, names and links are right."""

import dataclasses
import gzip
import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.characters import normalise
from pipeline.cli import parser
from pipeline.loader import augment
from pipeline.manifest import PROMISED, load_manifest
from pipeline.prepare.request import Request, resolve
from tests import pages, reference, shard_bytes
from tests.pages import NAMED, Stage, blocks, miniature

Ask = Callable[..., Request]
ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SLOW = {"README.md", "training.md", "speech_to_text.md", "digit_sum.md"}  # they train


def _check_features(names: dict[str, Any]) -> None:
    assert names["prepared"].shape == (8, 98, 80)
    assert abs(names["on_the_fly"].numpy() - names["prepared"]).max() < 1e-3


def _check_loading(names: dict[str, Any]) -> None:
    state = names["loader"].state_dict()
    text = (ROOT / "docs" / "loading.md").read_text()
    assert all(f'"{name}": ' in text for name in state)


def _check_augmentation(names: dict[str, Any]) -> None:
    assert names["batch"]["features"].shape[2] == 40
    assert names["batch"]["features"].shape[1] == int(names["batch"]["lengths"].max())
    (held_out,) = names["held_out"]
    assert held_out["features"].shape == (3, 101, 40)


def _check_training(names: dict[str, Any]) -> None:
    """The run's folder holds what the first table of the page says."""
    table = (ROOT / "docs" / "training.md").read_text().partition("## Models")[0]
    told = set(re.findall(r"`([a-z]+\.[a-z]+)`", table))
    (run,) = Path("runs").iterdir()
    there = {path.name for path in run.iterdir() if not path.name.startswith(".")}
    assert there | {"examples.png"} == told  # of features and images alone


def _check_corpora(names: dict[str, Any]) -> None:
    assert names["text"] == normalise(names["batch"]["normalized_text"][0])


# What a page's snippets must have come to, beside running.
OUTCOMES = {
    "features.md": _check_features,
    "loading.md": _check_loading,
    "augmentation.md": _check_augmentation,
    "training.md": _check_training,
    "corpora.md": _check_corpora,
}


@pytest.fixture(scope="module")
def stage(
    tmp_path_factory: pytest.TempPathFactory,
    commands_archive: Path,
    phrases_archive: Path,
    cache: Path,
) -> Stage:
    """Miniatures of the corpora that must be downloaded."""
    folder = tmp_path_factory.mktemp("miniatures")
    files = {
        "speech_commands": {"v1": commands_archive, "v2": commands_archive},
        "ljspeech": {"archive": phrases_archive},
        "mnist": _images(folder),
    }
    made = {name: miniature(name, sources, folder) for name, sources in files.items()}
    return Stage(made, cache, folder / "built")


def _images(folder: Path) -> dict[str, Path]:
    """60 and 20 images of noise in MNIST's four files."""
    rng, found = np.random.default_rng(0), {}
    for part, count in (("train", 60), ("test", 20)):
        images = rng.integers(0, 256, (count, 28, 28), np.uint8)
        digits = np.arange(count, dtype=np.uint8) % 10
        heads = (
            struct.pack(">4B3I", 0, 0, 8, 3, count, 28, 28),
            struct.pack(">4BI", 0, 0, 8, 1, count),
        )
        for what, head, values in zip(("images", "labels"), heads, (images, digits), strict=True):
            path = folder / f"{part}-{what}.gz"
            path.write_bytes(gzip.compress(head + values.tobytes(), mtime=0))
            found[f"{part}-{what}"] = path
    return found


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=pytest.mark.slow if p.name in SLOW else (), id=p.name) for p in DOCS],
)
def test_every_command_and_snippet_of_a_page_runs(
    path: Path, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    names = stage.run(path, tmp_path, monkeypatch.setenv)
    OUTCOMES.get(path.name, lambda names: None)(names)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_block_is_run_or_says_why_not(path: Path) -> None:
    """The reason is for readers of the source: a few words, no excuse."""
    text = path.read_text()
    found = blocks(path)
    assert len(found) == len(re.findall(r"^```(?:sh|python|bash|console|shell)$", text, re.M))
    assert sum(bool(block.unrun) for block in found) == text.count("<!-- not run: ")
    assert all(len(block.unrun) > 10 for block in found if block.unrun)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_datasets_are_named_as_they_would_be(path: Path) -> None:
    """The digits are those of the real corpus's declaration."""
    for recipe, protocol, kind, digits in set(NAMED.findall(path.read_text())):
        if digits != "*":
            resolved = resolve(Request(recipe, protocol, kind))
            hashes = {role: str(source.sha256) for role, source in resolved.sources.items()}
            name = resolved.name(resolved.declaration(hashes))
            assert name == f"{recipe}/{protocol}-{kind}-{digits}"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target


def test_the_index_lists_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    for path in DOCS:
        assert path.name == "README.md" or f"]({path.name})" in index, path.name


def test_the_reference_is_that_of_the_help() -> None:
    same = reference.PAGE.read_text() == reference.reference()
    assert same, "a help text has changed; run: python -m tests.reference"


def test_the_shard_on_the_page_is_the_one_that_is_written() -> None:
    data = shard_bytes.example()
    found = list(shard_bytes.regions(data))
    edges = [(begin, end) for begin, end, _ in found]
    assert [0, *(end for _, end in edges)] == [*(begin for begin, _ in edges), len(data)]
    assert data.startswith(b"ARROW1\0\0")
    assert data.endswith(b"ARROW1")
    same = shard_bytes.PAGE.read_text() == shard_bytes.page()
    assert same, "shards have changed; run: python -m tests.shard_bytes"


def test_the_page_of_corpora_has_every_protocol_with_its_counts() -> None:
    page, of = (ROOT / "docs" / "corpora.md").read_text(), ""
    told: dict[tuple[str, str], list[str]] = {}
    for line in page.splitlines():
        corpus, protocols, *counts = (cell.strip() for cell in (line + "|" * 7).split("|")[1:6])
        of = corpus.strip("`") or of
        told |= {(of, name): counts for name in re.findall(r"`(\S+)`", protocols)}
    for path in (ROOT / "manifests").glob("*.toml"):
        manifest = load_manifest(path)
        for protocol in manifest.protocols.values():
            if not any(protocol.splits.values()):
                continue
            shown = {None: "unpinned"} | {n: f"{n:,}" for n in protocol.splits.values() if n}
            wanted = [shown[protocol.splits[s]] if s in protocol.splits else "–" for s in PROMISED]
            assert told[manifest.name, protocol.name] == wanted, protocol.name


def test_every_field_of_a_dataset_is_told(digits_dataset: Path) -> None:
    told = (ROOT / "docs" / "format.md").read_text()
    rest, sidecars = told.split("## The sidecar")
    fields = re.findall(r"^\| `(\w+)` \|", rest.partition("## dataset.json")[2], re.M)
    info = json.loads((digits_dataset / "dataset.json").read_text())
    assert [name for name in fields if name != "alphabets"] == list(info)  # which digits lack
    sidecar = json.loads((digits_dataset / "test-00000-of-00001.json").read_text())
    assert all(f"`{name}`" in sidecars for name in sidecar)


def test_options_on_the_pages_exist() -> None:
    """Every ``--option`` of a shardwell command that a page shows, run or not."""
    known = {c.prog: set(c._option_string_actions) for c in reference.commands(parser())}
    for path in DOCS:
        for line in re.findall(r"shardwell [a-z].*", path.read_text().replace("\\\n", " ")):
            command = " ".join(line.split()[:2])
            used = set(re.findall(r"(?<= )--[a-z-]+", line.partition("`")[0].partition(" #")[0]))
            assert used <= known.get(command, used) | known["shardwell cache clean"], line


def test_the_pages_leave_nothing_out() -> None:
    """Front ends, steps of augmentation, models, options of audio, flags of prepare."""
    from pipeline.audio import Audio
    from pipeline.features.front_ends import FRONT_ENDS
    from pipeline.train.models import MODELS

    page = {path.name: path.read_text() for path in DOCS[1:]}
    assert all(f"`{name}`" in page["features.md"] for name in FRONT_ENDS)
    assert all(f"`{name}(" in page["augmentation.md"] for name in augment.__all__)
    assert all(f"`{name}`" in page["training.md"] for name in MODELS)
    options = {field.name for field in dataclasses.fields(Audio) if field.name != "fit_seed"}
    assert all(re.search(rf"`{name}=|or `{name}=", page["prepare.md"]) for name in options)
    prepare = next(c for c in reference.commands(parser()) if c.prog == "shardwell prepare")
    flags = set(prepare._option_string_actions) - {"-h", "--help"}
    assert all(f"`{flag}" in page["prepare.md"] for flag in flags)


def test_what_a_page_may_not_do_is_told() -> None:
    with pytest.raises(AssertionError, match="too clever"):
        list(pages.command_lines("shardwell list | head"))
    with pytest.raises(AssertionError, match="say why"):
        Stage({}, ROOT, ROOT)._command(["pip", "install", "x"], ROOT, lambda name, value: None)
