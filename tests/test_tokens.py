"""Transcripts as ids of characters, beside the text: stored, loaded, padded, published."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.characters import Alphabet, normalise
from pipeline.dataset import NAME, open_sealed
from pipeline.errors import DatasetError, RecipeError, UsageError
from pipeline.loader import make_loader, open_dataset, stream
from pipeline.loader.opening import Dataset
from pipeline.prepare import Request, prepare_dataset
from pipeline.publish.export import export
from pipeline.publish.parquet import read_parquet, write_parquet
from pipeline.recipe import Recipe
from pipeline.rows import content_of, pieces
from pipeline.shard import read_shard
from pipeline.train import transcription
from tests.conftest import write_manifest
from tests.miniatures import tar_of, wav

Ask = Callable[..., Request]


@pytest.fixture
def phrases(ask_phrases: Ask) -> Dataset:
    return open_dataset(prepare_dataset(ask_phrases()).folder, key=True)


def read(split_alphabet: Alphabet, tokens: torch.Tensor, length: int) -> str:
    assert not tokens[length:].any()  # zeros behind
    return split_alphabet.decode(tokens[:length].tolist())


def test_tokens_are_the_normalised_text(phrases: Dataset) -> None:
    train = phrases["train"]
    alphabet = train.alphabets["tokens"]
    for batch in make_loader(train, 4, shuffle=True):
        assert batch["tokens"].dtype == batch["tokens_lengths"].dtype == torch.int64
        assert batch["tokens"].shape == (len(batch["key"]), batch["tokens_lengths"].max())
        rows = zip(batch["tokens"], batch["tokens_lengths"].tolist(), strict=True)
        found = [read(alphabet, tokens, n) for tokens, n in rows]
        assert found == [normalise(text) for text in batch["normalized_text"]]


def test_one_alphabet_for_datasets_and_models(phrases: Dataset) -> None:
    """What the trainer learns to write are the very tokens that are stored."""
    train = phrases["train"]
    names = transcription.names(phrases.sealed, "normalized_text")
    assert names == ("", *train.alphabets["tokens"].characters)
    batch = train.batch(range(4))
    tokens, counts = transcription.targets(batch["normalized_text"], names)
    assert counts.equal(batch["tokens_lengths"])
    inside = torch.arange(batch["tokens"].shape[1]) < counts[:, None]
    assert batch["tokens"][inside].equal(tokens)


def test_examples_and_parts_and_streams_have_them(phrases: Dataset) -> None:
    train = phrases["train"]
    whole = train.batch(range(6))
    for i, item in enumerate([train[2], train[4], train.__getitems__([2, 4])[1]]):
        row = (2, 4, 4)[i]
        assert int(item["tokens_lengths"]) == len(item["tokens"])
        assert item["tokens"].equal(whole["tokens"][row, : len(item["tokens"])])
    part = train.select([5, 1]).batch([1])
    assert part["tokens"].equal(whole["tokens"][1:2, : part["tokens"].shape[1]])
    (streamed,) = stream(phrases.sealed.folder, "train", 6, key=True)
    assert streamed["key"] == whole["key"]
    assert streamed["tokens"].equal(whole["tokens"])
    few = open_dataset(phrases.sealed.folder, labels=["text"])["train"].batch([0])
    assert set(few) == {"features", "lengths", "text"}
    assert train.batch([])["tokens"].shape == (0, 0)
    with pytest.raises(UsageError, match=r"column tokens of train: expected single values, .* ids"):
        train.column("tokens")
    theirs = train.to_hf()
    assert theirs[0]["tokens"] == train[0]["tokens"].tolist()


def test_they_are_published_beside_the_text(phrases: Dataset, tmp_path: Path) -> None:
    """``export`` reads every row back with ``datasets`` and proves it."""
    for form in ("parquet", "webdataset"):
        export(phrases.sealed.folder, form, tmp_path / form, (), lambda done: None)
        page = (tmp_path / form / "README.md").read_text()
        assert "Label `tokens`: the ids of characters; 1 is the first of `" in page


def test_what_was_published_comes_back_to_the_bit(phrases: Dataset, tmp_path: Path) -> None:
    sealed = phrases.sealed
    (info,) = sealed.splits["train"]
    write_parquet(tmp_path / "x.parquet", sealed, info)
    shard = read_shard(sealed.folder / f"{info.shard}.arrow", sealed.columns)
    published = read_parquet(tmp_path / "x.parquet", sealed, info)
    assert content_of(published) == content_of(pieces(shard, sealed.columns))


@pytest.fixture
def ask_spelt(tmp_path: Path, cache: Path) -> Ask:
    """``ask(train, test)`` → a request for two clips of these texts."""

    def ask(train: str, test: str) -> Request:
        table = f"LJ001-0001|x|{train}\nLJ001-0002|x|{test}\n"
        members = {f"LJSpeech-1.1/wavs/LJ001-000{i}.wav": wav(9000, i, 22050) for i in (1, 2)}
        members["LJSpeech-1.1/metadata.csv"] = table.encode()
        archive = tar_of(tmp_path / "x.tar", members)
        manifest = write_manifest(
            tmp_path / "x.toml",
            "ljspeech",
            {"archive": archive},
            {"train": 1, "test": 1},
            "params = { validation = 0, test = 1 }",
        )
        sources = {"archive": archive}
        return Request(
            "ljspeech",
            manifest=manifest,
            sources=sources,
            out=tmp_path,
            cache=cache,
            engine="serial",
        )

    return ask


def test_nothing_is_looked_up_in_held_out_texts(ask_spelt: Ask) -> None:
    data = open_dataset(prepare_dataset(ask_spelt("“Ab, É!”", "Abz e.")).folder)
    assert data.info["alphabets"] == {"tokens": " abe"}
    assert data["train"][0]["tokens"].tolist() == [2, 3, 1, 4]
    assert data["test"][0]["tokens"].tolist() == [2, 3, 1, 4]  # the z has no token
    assert data["test"][0]["normalized_text"] == "Abz e."


def test_a_text_without_characters_has_no_tokens(ask_spelt: Ask) -> None:
    data = open_dataset(prepare_dataset(ask_spelt("ab", "…!")).folder)
    item, batch = data["test"][0], data["test"].batch([0])
    assert item["tokens"].dtype == torch.int64
    assert item["tokens"].shape == (0,)
    assert batch["tokens"].shape == (1, 0)
    assert batch["tokens_lengths"].tolist() == [0]


def test_train_without_characters_is_one_line(ask_spelt: Ask) -> None:
    with pytest.raises(RecipeError, match="label tokens: expected characters in train's texts"):
        prepare_dataset(ask_spelt("?", "ab"))


@pytest.mark.parametrize("alphabets", [{}, {"tokens": ""}, {"tokens": "aa"}, {"text": "ab"}, "ab"])
def test_a_damaged_alphabet_is_named(phrases: Dataset, alphabets: object) -> None:
    path = phrases.sealed.folder / NAME
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"alphabets": alphabets}))
    with pytest.raises(DatasetError, match="damaged"):
        open_sealed(phrases.sealed.folder)


def test_a_label_may_not_be_called_like_the_lengths_of_another() -> None:
    labels = {"said": "characters", "said_lengths": "int"}
    with pytest.raises(RecipeError, match="label said_lengths: expected another name"):
        Recipe("mine", 1, labels, ("tokens",), lambda corpus: iter(()), lambda p, a: io.BytesIO())  # type: ignore[arg-type,return-value]
