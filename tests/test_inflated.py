"""What was inflated once is all that is read: the archive itself may go."""

import gzip
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import SourceError
from pipeline.prepare import Request, estimate, prepare_dataset
from tests.conftest import write_manifest

Ask = Callable[..., Request]


@pytest.fixture
def ask(ask_commands: Ask, commands_archive: Path, tmp_path: Path) -> Ask:
    """A request whose archive was inflated before and is nowhere any more."""
    archive = tmp_path / "moved.tar.gz"
    shutil.copyfile(commands_archive, archive)
    cache = tmp_path / "cache"
    prepare_dataset(ask_commands(sources={"v2": archive}, cache=cache))
    archive.unlink()
    return lambda **changes: ask_commands(sources={}, offline=True, cache=cache, **changes)


def plain_of(request: Request) -> Path:
    (plain,) = (Path(request.cache) / "inflated").glob("*.plain")
    return plain


def test_other_features_need_no_archive(ask: Ask, ask_commands: Ask, tmp_path: Path) -> None:
    request = ask(features="log_mel:n_mels=40")
    assert estimate(request).exact
    done = prepare_dataset(request)
    elsewhere = ask_commands(
        features="log_mel:n_mels=40", out=tmp_path / "elsewhere", cache=tmp_path / "other"
    )
    expected = prepare_dataset(elsewhere)
    assert Path(done.folder).name == Path(expected.folder).name
    for path in Path(expected.folder).iterdir():
        assert (Path(done.folder) / path.name).read_bytes() == path.read_bytes()


def test_a_touched_copy_is_believed_for_its_hash(ask: Ask) -> None:
    request = ask(features="waveform")
    plain_of(request).touch()
    assert prepare_dataset(request).rows["train"] == 9


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + b"\1"])
def test_a_damaged_copy_stands_for_nothing(ask: Ask, damage: Callable[[bytes], bytes]) -> None:
    request = ask(features="waveform")
    plain = plain_of(request)
    plain.write_bytes(damage(plain.read_bytes()))
    assert not estimate(request).exact
    with pytest.raises(SourceError, match="--offline forbids a download"):
        prepare_dataset(request)


@pytest.mark.parametrize("pin", ["bytes", "sha256"])
def test_a_copy_stands_only_for_the_very_file_that_is_pinned(
    ask: Ask, tmp_path: Path, pin: str
) -> None:
    """Its name holds but the first digits of the hash."""
    text = Path(str(ask().manifest)).read_text()
    wrong = {
        "bytes": re.sub(r"bytes = \d+", "bytes = 1", text),
        "sha256": re.sub(r'(sha256 = "[0-9a-f]{16})[0-9a-f]{48}', rf"\g<1>{'0' * 48}", text),
    }[pin]
    assert wrong != text
    (tmp_path / "wrong.toml").write_text(wrong)
    with pytest.raises(SourceError, match="--offline forbids a download"):
        prepare_dataset(ask(manifest=tmp_path / "wrong.toml", features="waveform"))


def test_a_dry_run_inflates_nothing(ask: Ask, ask_commands: Ask, commands_archive: Path) -> None:
    """What a killed run left without its index is nothing that could be looked into."""
    cache = Path(ask().cache)
    (index,) = cache.rglob("*.index")
    index.unlink()
    assert not estimate(ask_commands(cache=cache, features="waveform")).exact
    assert not index.exists()


def test_a_copy_of_another_archive_stands_for_nothing(
    ask: Ask, commands_archive: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.tar.gz"
    other.write_bytes(commands_archive.read_bytes() + bytes(8))
    manifest = write_manifest(
        tmp_path / "other.toml",
        "speech_commands",
        {"v2": other},
        {"train": 9, "validation": 3, "test": 3},
        params="params.words = []",
        roles={"main": "v2"},
    )
    with pytest.raises(SourceError, match="--offline forbids a download"):
        prepare_dataset(ask(manifest=manifest, features="waveform"))


RECIPE = """
import numpy as np
from pipeline.recipe import Recipe
from pipeline.records import Example
def examples(corpus):
    for role in ("left", "right"):
        yield Example(role, "train", (corpus.slice(role, 0, 100),), {"n": 1})
def load(pieces, audio):
    return np.frombuffer(pieces[0].data, np.uint8).astype(np.int64)
RECIPE = Recipe("twice", 1, {"n": "int"}, ("tokens",), examples, load)
"""


@pytest.mark.parametrize("names", [("one", "one"), ("one", "two")])
def test_one_file_in_two_roles_is_inflated_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str]
) -> None:
    """Its lock is held until the disk has it: who asked for it twice would wait for itself."""
    monkeypatch.setattr("pipeline.archive.opening.flush", lambda path: time.sleep(0.3))
    file, code = tmp_path / "data.gz", tmp_path / "twice.py"
    file.write_bytes(gzip.compress(bytes(range(10)) * 10))
    code.write_text(RECIPE)
    left, right = names
    roles = {"left": left, "right": right}
    sources = dict.fromkeys(names, file)
    write_manifest(tmp_path / "twice.toml", "twice", sources, {"train": 2}, roles=roles)
    request = Request(
        str(code), engine="serial", out=tmp_path / "out", cache=tmp_path / "cache", sources=sources
    )
    assert prepare_dataset(request).rows == {"train": 2}
    assert len(list((tmp_path / "cache").rglob("*.plain"))) == 1
