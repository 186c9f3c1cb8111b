"""The contract of a recipe, kept by every one that ships; how recipes are found and loaded."""

import json
from pathlib import Path

import pytest

from pipeline.archive import Reader
from pipeline.errors import RecipeError, UnknownNameError, UsageError
from pipeline.features import KINDS
from pipeline.manifest import SPLITS, load_manifest
from pipeline.recipe import Corpus, Recipe, load_recipe
from pipeline.recipe_files import known_recipes, locate
from tests.clips import recordings
from tests.conftest import recipe_module
from tests.miniatures import corpus_of, idx_files, spoken_digits, tar_of

PLACES = known_recipes()
OWN = {"splits": "auto", "shares": [3, 1, 1], "seed": 0, "speaker_before": ""}


@pytest.fixture
def corpora(
    tmp_path: Path, commands_archive: Path, phrases_archive: Path
) -> dict[str, tuple[Corpus, dict[str, object]]]:
    """A miniature corpus of every recipe, with the params of its protocol."""
    sequences = tmp_path / "digits.txt"
    recipe_module("digit_sum").tutorial(sequences)
    digits = spoken_digits(tmp_path / "digits.tar")
    one_split = {"keep": ["age"], "shares": [1, 0, 0]}
    words = {"words": [], "speakers": 5, "takes": 1, "seed": 3}
    phrases = {"clips": 12, "validation": 2, "test": 4, "seed": 3}
    return {
        "digit_sum": (corpus_of(sequences=sequences), {"lengths": [5, 10]}),
        "folder": (corpus_of(data=commands_archive), OWN),
        "fsdd": (corpus_of(archive=digits), {"test": 5, "validation": 0}),
        "hub": (corpus_of(rows=rows_archive(tmp_path)), params_of("hub")),
        "ljspeech": (corpus_of(archive=phrases_archive), {"validation": 2, "test": 4}),
        "mnist": (corpus_of(**idx_files(tmp_path)), {"validation": 2}),
        "speech_commands": (corpus_of(main=commands_archive), {"words": []}),
        "synthetic_commands": (corpus_of(main=commands_archive), words),
        "synthetic_phrases": (corpus_of(archive=phrases_archive), phrases),
        "table": (corpus_of(data=table_archive(tmp_path)), params_of("table") | one_split),
    }


def params_of(name: str) -> dict[str, object]:
    return dict(load_manifest(PLACES[name].manifest).protocol(None).params)


def rows_archive(folder: Path) -> Path:
    """What ``hub`` makes of a dataset with three recordings."""
    clips = [data for _, data in recordings(3)]
    row = json.dumps({"path": "train.parquet", "labels": {"word": ["class", "a"]}})
    members = {f"{i:08d}": data for i, data in enumerate(clips)}
    return tar_of(folder / "hub.tar", {**members, "rows.jsonl": f"{row}\n".encode() * 3})


def table_archive(folder: Path) -> Path:
    """A table and its three recordings."""
    clips = dict(recordings(3))
    lines = ["path,label,age", *(f"{name},a,{i}" for i, name in enumerate(clips))]
    return tar_of(folder / "table.tar", {"x.csv": "\n".join(lines).encode(), **clips})


@pytest.mark.parametrize("name", PLACES)
def test_every_recipe_keeps_the_contract(
    name: str, corpora: dict[str, tuple[Corpus, dict[str, object]]]
) -> None:
    recipe = load_recipe(PLACES[name].code)
    corpus, params = corpora[name]
    if recipe.fitted:
        recipe = recipe.fitted(recipe, corpus, **params)
    assert recipe.name == name
    assert set(recipe.features) <= set(KINDS)
    found = list(recipe.examples(corpus, **params))
    assert list(recipe.examples(corpus, **params)) == found  # nothing random, nothing used up
    assert len({e.key for e in found}) == len(found)
    reader = Reader({s.name: s.path for s in corpus.sources.values()})
    for example in found:
        assert example.split in SPLITS
        assert set(example.labels) == set(recipe.labels)
        array = recipe.load([reader.piece(ref) for ref in example.refs], recipe.audio)
        assert array.size
    protocols = load_manifest(PLACES[name].manifest).protocols
    assert {*params} <= {p for protocol in protocols.values() for p in protocol.params}


def test_synthetic_speech_is_the_same_every_time(tmp_path: Path, commands_archive: Path) -> None:
    module = recipe_module("synthetic_commands")
    again = tmp_path / "again.tar.gz"
    module.write_commands(again, words=("yes", "down", "go"), speakers=5, takes=1, seed=3)
    assert again.read_bytes() == commands_archive.read_bytes()
    with pytest.raises(RecipeError, match="expected speakers >= 3"):
        module.write_commands(again, words=("yes",), speakers=2, takes=1, seed=3)


def test_synthetic_splits_share_no_speaker(
    corpora: dict[str, tuple[Corpus, dict[str, object]]],
) -> None:
    corpus, params = corpora["synthetic_commands"]
    speakers: dict[str, set[object]] = {}
    for example in load_recipe(PLACES["synthetic_commands"].code).examples(corpus, **params):
        speakers.setdefault(example.split, set()).add(example.labels["speaker"])
    assert sum(len(s) for s in speakers.values()) == len(set.union(*speakers.values())) == 5


RECIPE_FILE = """
from pipeline.recipe import Recipe
def examples(corpus): yield from ()
def load(pieces, audio): return None
RECIPE = Recipe("mine", 1, {}, ("tokens",), examples, load)
"""


def test_a_recipe_is_found_by_path(tmp_path: Path) -> None:
    code = tmp_path / "mine.py"
    code.write_text(RECIPE_FILE)
    place = locate(str(code))
    assert (place.name, place.manifest) == ("mine", tmp_path / "mine.toml")
    assert isinstance(load_recipe(place.code), Recipe)
    with pytest.raises(UsageError, match="expected a recipe file, got no such file"):
        locate(str(tmp_path / "none.py"))
    with pytest.raises(UnknownNameError, match="unknown recipe 'mnits': expected one of mnist,"):
        locate("mnits")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("RECIPE =", "can't be loaded: SyntaxError"),
        ("import nowhere_to_be_found", "can't be loaded: ModuleNotFoundError"),
        ("x = 1", "expected RECIPE = Recipe"),
        (RECIPE_FILE.replace("{}", "{'a': 'word'}"), "unknown type of label a in recipe mine"),
    ],
)
def test_a_recipe_that_fails_is_one_line(tmp_path: Path, code: str, message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(code)
    with pytest.raises((RecipeError, UnknownNameError), match=message):
        load_recipe(path)
