"""What was inflated once is all that is read: the archive itself may go."""

import shutil
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
