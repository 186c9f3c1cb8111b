"""What ``prepare_dataset`` refuses is one clear line, and nothing is lost by it."""

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.dataset import NAME
from pipeline.errors import (
    BuildError,
    FeatureError,
    OutputError,
    RecipeError,
    ShardwellError,
    SourceError,
    UnknownNameError,
    UsageError,
)
from pipeline.prepare import Request, prepare_dataset
from pipeline.prepare.request import resolve
from tests.conftest import write_manifest

Ask = Callable[..., Request]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"recipe": "speech_comands"}, UnknownNameError, "expected one of speech_commands,"),
        ({"protocol": "v3"}, UnknownNameError, "unknown protocol of speech_commands 'v3'"),
        ({"features": "mfc"}, UnknownNameError, "unknown feature 'mfc': expected one of mfcc"),
        ({"features": "pixels"}, FeatureError, "pixels: speech_commands gives mfcc, log_mel"),
        ({"audio": "rate=3"}, UnknownNameError, "unknown option of audio 'rate'"),
        ({"audio": "sample_rate=x"}, UsageError, "sample_rate: expected a whole number, got 'x'"),
        ({"params": "word=yes"}, UnknownNameError, "unknown parameter of protocol mini 'word'"),
        ({"params": "words=maybe"}, RecipeError, "no clip of the words maybe"),
        ({"engine": "warp"}, UnknownNameError, "unknown engine 'warp': expected one of dask,"),
        ({"workers": 0}, UsageError, "workers=0: expected 1 to 1024"),
        ({"max_bad": -1}, UsageError, "max_bad=-1: expected 0 or more"),
        ({"out": "memory://x", "engine": "local"}, UsageError, "memory://x: is in this process"),
        ({"engine": "dask", "address": "foo"}, UsageError, "'foo': expected one like tcp://host"),
        ({"params": {"words": [float("inf")]}}, UsageError, "expected a finite number, got inf"),
        ({"sources": {"v9": Path("x")}}, UnknownNameError, "unknown source of speech_commands"),
        ({"sources": {}, "cache": Path("/none")}, SourceError, "--offline forbids a download"),
        (
            {"sources": {"v2": Path("/none")}, "cache": Path("/none")},
            SourceError,
            "expected a file, got none there",
        ),
    ],
)
def test_what_can_not_be_is_one_clear_line(
    ask_commands: Ask, changes: dict[str, object], error: type[ShardwellError], message: str
) -> None:
    with pytest.raises(error) as caught:
        prepare_dataset(ask_commands(**changes))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_manifest_of_another_corpus_is_refused(ask_commands: Ask, ask_digits: Ask) -> None:
    with pytest.raises(UsageError, match="manifest is for 'speech_commands', but the recipe is"):
        prepare_dataset(ask_digits(manifest=ask_commands().manifest))


def test_promised_counts_hold(ask_commands: Ask, tmp_path: Path, commands_archive: Path) -> None:
    manifest = write_manifest(
        tmp_path / "wrong.toml",
        "speech_commands",
        {"v2": commands_archive},
        {"train": 10, "validation": 3, "test": 3},
        params="params.words = []",
        roles={"main": "v2"},
    )
    with pytest.raises(BuildError, match="train should hold 10 examples, got 9"):
        prepare_dataset(ask_commands(manifest=manifest))
    # Other params are another set: its counts are nobody's promise.
    assert prepare_dataset(ask_commands(manifest=manifest, params="words=yes")).rows["train"] == 3


def test_an_output_that_holds_something_else_is_left_alone(
    ask_commands: Ask, tmp_path: Path
) -> None:
    folder = prepare_dataset(ask_commands()).folder
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "thesis.docx").write_text("years of work")
    with pytest.raises(OutputError, match=r"holds thesis\.docx, which is no part of a dataset"):
        prepare_dataset(ask_commands())
    assert (folder / "thesis.docx").read_text() == "years of work"
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="expected a directory, got a file"):
        prepare_dataset(ask_commands(out=tmp_path / "file"))


@pytest.mark.parametrize("text", ["{}", "not json", '{"format": 1, "splits": {}}'])
def test_a_dataset_json_of_something_else_is_refused(ask_commands: Ask, text: str) -> None:
    folder = prepare_dataset(ask_commands()).folder
    (folder / NAME).write_text(text)
    with pytest.raises(OutputError, match="describes another dataset or is damaged"):
        prepare_dataset(ask_commands())


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(
    ask_commands: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 100})()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: usage)
        with pytest.raises(
            OutputError, match="the shards need about 242,400 bytes more, 100 are free"
        ):
            prepare_dataset(ask_commands())

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/disk/x.arrow")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.build.write_shard", full)
        with pytest.raises(OutputError, match=r"/disk/x\.arrow: No space left on device; what is"):
            prepare_dataset(ask_commands())
    assert not prepare_dataset(ask_commands()).up_to_date


OWN_RECIPE = """
from pipeline.recipe import Recipe
from pipeline.records import Example
import numpy as np
def examples(corpus):
    for i in range(corpus.size("main")):
        yield Example(f"k{{i}}", "train", (corpus.slice("main", i, 1),), {{"n": {label}}})
def load(pieces, audio):
    {load}
RECIPE = Recipe("mine", 1, {{"n": "int"}}, ("tokens",), examples, load)
"""


GOOD_LOAD = "return np.frombuffer(pieces[0].data, np.uint8).astype(np.int64) % 10"


@pytest.fixture
def own(tmp_path: Path, cache: Path) -> Callable[..., Request]:
    """``own(label, load)`` writes a recipe of the given code beside a corpus of 100 bytes."""
    data = tmp_path / "mine.bin"
    data.write_bytes(bytes(range(100)))
    write_manifest(tmp_path / "mine.toml", "mine", {"main": data}, {"train": 100})

    def ask(label: str = "i", load: str = GOOD_LOAD, **changes: object) -> Request:
        code = tmp_path / "mine.py"
        code.write_text(OWN_RECIPE.format(label=label, load=load))
        fixed = {"out": tmp_path / "out", "cache": cache, "sources": {"main": data}}
        return Request(str(code), engine="serial", **(fixed | changes))  # type: ignore[arg-type]

    return ask


def test_what_an_edited_recipe_left_is_never_mixed_in(own: Callable[..., Request]) -> None:
    folder = prepare_dataset(own()).folder
    (folder / NAME).unlink()  # as if the run had been interrupted before its end
    again = prepare_dataset(own(label="1000 + i")).folder
    from pipeline.loader import open_dataset

    split = open_dataset(again, key=True)["train"]
    assert all(split[i]["n"] == 1000 + int(split[i]["key"][1:]) for i in range(100))


def test_a_recipe_that_fails_is_one_line(own: Callable[..., Request]) -> None:
    with pytest.raises(RecipeError, match=r"recipe mine: load failed on k\d+: ZeroDivisionError"):
        prepare_dataset(own(load="1 / 0"))
    with pytest.raises(RecipeError, match="recipe mine: examples failed: NameError"):
        prepare_dataset(own(label="nothing"))


def test_params_and_roles_that_do_not_fit_the_recipe_are_named(
    own: Callable[..., Request], tmp_path: Path
) -> None:
    request = own()
    manifest = tmp_path / "mine.toml"
    text = manifest.read_text()
    manifest.write_text(text.replace("[protocols.mini]", "[protocols.mini]\nparams.x = 1"))
    with pytest.raises(RecipeError, match="params do not fit its examples"):
        resolve(request)  # before anything is fetched
    manifest.write_text(text.replace("sources.main =", "sources.mian ="))
    with pytest.raises(RecipeError, match="in the role 'main'; the protocol gives mian"):
        prepare_dataset(request)
