"""Speech Commands in twelve classes, Free Spoken Digits: miniatures with exact counts."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch

from pipeline.errors import BuildError, RecipeError, UsageError
from pipeline.loader import make_loader, open_dataset
from pipeline.manifest import load_manifest
from pipeline.prepare import Request, prepare_dataset
from pipeline.records import Example
from pipeline.train import settings_for, train
from tests.conftest import ROOT, recipe_module, write_manifest
from tests.miniatures import (
    NOISES,
    TEN,
    companion,
    corpus_of,
    idx_files,
    main_archive,
    splits_of,
    spoken_digits,
    tar_of,
)

WINDOWS = {"pink_noise": 3, "running_tap": 4, "white_noise": 2}
COUNTS = {
    "train": dict.fromkeys(TEN, 3) | {"_unknown_": 6, "_silence_": 5},
    "validation": dict.fromkeys(TEN, 1) | {"_unknown_": 2, "_silence_": 4},
    "test": dict.fromkeys(TEN, 1) | {"yes": 2, "_unknown_": 3, "_silence_": 2},
}
Ask = Callable[..., Request]


def found(folder: Path, **changes: str) -> list[Example]:
    corpus = corpus_of(
        main=main_archive(folder / "main.tar"), test=companion(folder / "test.tar", **changes)
    )
    return list(recipe_module("speech_commands").examples(corpus, words=TEN))


def asker(
    recipe: str,
    folder: Path,
    cache: Path,
    files: Mapping[str, Path],
    counts: Mapping[str, int],
    params: str,
    roles: Mapping[str, str] | None = None,
) -> Ask:
    """``ask(**changes)`` → a request for these files, which promise these counts."""
    path = folder / f"{recipe}.toml"
    manifest = write_manifest(path, recipe, files, counts, params, roles=roles)

    def ask(**changes: str) -> Request:
        return Request(
            recipe,
            manifest=manifest,
            sources=files,
            out=folder / "data",
            cache=cache,
            engine="serial",
            **changes,  # type: ignore[arg-type]
        )

    return ask


@pytest.fixture
def ask_twelve(tmp_path: Path, cache: Path) -> Ask:
    """The miniature of v2-12."""
    files = {
        "v2": main_archive(tmp_path / "main.tar"),
        "v2-test": companion(tmp_path / "test.tar"),
    }
    counts = {split: sum(classes.values()) for split, classes in COUNTS.items()}
    params, roles = f"params.words = {list(TEN)!r}", {"main": "v2", "test": "v2-test"}
    return asker("speech_commands", tmp_path, cache, files, counts, params, roles)


@pytest.mark.parametrize(("features", "model"), [("mfcc", "conv2d"), ("waveform", "bcresnet")])
def test_twelve_classes_hold_what_they_promise_and_train(
    ask_twelve: Ask, tmp_path: Path, features: str, model: str
) -> None:
    data = open_dataset(prepare_dataset(ask_twelve(features=features)).folder)
    names = data.sealed.classes["word"]
    assert names == ("_silence_", "_unknown_", *TEN)
    for split, wanted in COUNTS.items():
        classes = data[split].column("word").tolist()
        assert Counter(names[i] for i in classes) == wanted, split
    hints = data.info["hints"]
    assert hints == {"target": "word", "model": "bcresnet"}
    settings = settings_for({"model": model, "epochs": 1, "device": "cpu"}, hints)
    end = train(data.sealed.folder, settings, tmp_path / "run")
    assert end.names == names
    assert end.test is not None


def test_no_sample_of_noise_stands_in_two_splits(tmp_path: Path) -> None:
    """Train, validation, and the split ``noise`` that is mixed into train."""
    corpus = corpus_of(
        main=main_archive(tmp_path / "main.tar"), test=companion(tmp_path / "test.tar")
    )
    module = recipe_module("speech_commands")
    examples = [*module.examples(corpus, words=TEN), *module.noise(corpus, 1.0)]
    heard: dict[str, set[tuple[str, int, int]]] = {"train": set(), "validation": set()}
    offsets = {corpus.ref("main", f"_background_noise_/{n}.wav").offset: n for n in NOISES}
    windows: Counter[str] = Counter()
    for example in examples:
        (ref,) = example.refs
        if ref.source != "main" or ref.offset not in offsets:
            continue
        assert ref.stop is not None
        recording = offsets[ref.offset]
        assert 0 <= ref.start < ref.stop <= NOISES[recording]
        assert ref.stop - ref.start == 16_000
        windows[recording] += example.split != "noise"
        split = "validation" if example.split == "validation" else "train"
        heard[split] |= {(recording, sample, 0) for sample in range(ref.start, ref.stop, 500)}
    assert windows == WINDOWS
    assert heard["train"]
    assert heard["validation"]
    assert not heard["train"] & heard["validation"]


def test_the_test_sets_speakers_are_read_from_its_names(tmp_path: Path) -> None:
    held_out = {e.key: e.labels for e in found(tmp_path) if e.split == "test"}
    assert held_out["yes/0000000a_nohash_1"] == {"word": "yes", "speaker": "0000000a"}
    assert held_out["_unknown_/bed_00000004_nohash_0"]["speaker"] == "00000004"
    assert held_out["_silence_/0"] == {"word": "_silence_", "speaker": ""}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"without": "_silence_"}, r"12 classes, got 11 \(missing: _silence_; foreign: none\)"),
        ({"also": "bed/00000004_nohash_0.wav"}, r"got 13 \(missing: none; foreign: bed\); is this"),
    ],
)
def test_a_wrong_test_archive_is_one_line(
    tmp_path: Path, change: dict[str, str], message: str
) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        found(tmp_path, **change)
    assert "\n" not in str(caught.value)


def test_the_main_archive_is_no_companion(tmp_path: Path) -> None:
    main = main_archive(tmp_path / "main.tar")
    with pytest.raises(RecipeError, match=r"missing: _silence_, _unknown_; foreign: _background"):
        list(recipe_module("speech_commands").examples(corpus_of(main=main, test=main), words=TEN))


def test_an_archive_without_validations_noise_is_named(tmp_path: Path) -> None:
    lists = {"validation_list.txt": b"", "testing_list.txt": b""}
    main = tar_of(tmp_path / "x.tar", lists | {f"{w}/0_nohash_0.wav": b"x" for w in TEN})
    corpus = corpus_of(main=main, test=companion(tmp_path / "test.tar"))
    with pytest.raises(RecipeError, match=r"expected a member _background_noise_/running_tap\.wav"):
        list(recipe_module("speech_commands").examples(corpus, words=TEN))


def test_promises_follow_from_those_of_the_words() -> None:
    """The main archive's 668 and 121 windows of noise are counted on the real recordings."""
    protocols = load_manifest(ROOT / "manifests" / "speech_commands.toml").protocols
    for twelve, words in (("v2-12", "v2-35"), ("v1-12", "v1-30")):
        of_twelve, of_words = protocols[twelve].splits, protocols[words].splits
        for split, windows in (("train", 668), ("validation", 121)):
            assert of_twelve[split] == (of_words[split] or 0) + windows


@pytest.mark.parametrize("folder", ["", "./", "free-spoken-digit-dataset-1/"])
def test_digits_are_split_by_their_number(tmp_path: Path, folder: str) -> None:
    corpus = corpus_of(archive=spoken_digits(tmp_path / "x.tar", folder))
    module = recipe_module("fsdd")
    examples = list(module.examples(corpus, test=5, validation=2))
    splits = splits_of(iter(examples))
    assert {split: len(keys) for split, keys in splits.items()} == {
        "test": 20,
        "validation": 8,
        "train": 20,
    }
    assert set(splits["validation"]) == {
        f"{d}_{s}_{n}" for d in "07" for s in ("ann", "bob") for n in (5, 6)
    }
    assert {e.labels["speaker"] for e in examples} == {"ann", "bob"}
    assert "10" not in {key.rpartition("_")[2] for key in splits["test"]}  # by number, not by text


@pytest.fixture
def ask_digits(tmp_path: Path, cache: Path) -> Ask:
    """28 + 20 spoken digits."""
    files, counts = {"archive": spoken_digits(tmp_path / "x.tar")}, {"train": 28, "test": 20}
    return asker("fsdd", tmp_path, cache, files, counts, "params = { test = 5, validation = 0 }")


@pytest.mark.parametrize(
    ("audio", "dtype", "samples"),
    [("", "float32", 3200), ("sample_rate=8000", "int16", 1600)],  # resampled, or as recorded
)
def test_digits_are_resampled(ask_digits: Ask, audio: str, dtype: str, samples: int) -> None:
    data = open_dataset(prepare_dataset(ask_digits(features="waveform", audio=audio)).folder)
    assert data.sealed.columns.dtype == dtype
    batch = next(iter(make_loader(data["test"], 20)))
    assert batch["lengths"].tolist() == [samples] * 20
    assert torch.isfinite(batch["features"]).all()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("test=12", r"fsdd mini: train is left without any example by its split rule \(test=12"),
        ("test=0", "test is left without any example"),
        ("test=-1", "test=-1, validation=0: expected 0 or more clips"),
    ],
)
def test_a_rule_that_leaves_a_split_empty_is_one_line(
    ask_digits: Ask, params: str, message: str
) -> None:
    with pytest.raises((BuildError, RecipeError), match=message) as caught:
        prepare_dataset(ask_digits(params=params))
    assert "\n" not in str(caught.value)


def test_an_archive_without_digits_is_named(tmp_path: Path) -> None:
    corpus = corpus_of(archive=tar_of(tmp_path / "x.tar", {"wavs/0_ann_0.wav": b"x"}))
    with pytest.raises(RecipeError, match=r"x\.tar: expected members recordings/<digit>"):
        list(recipe_module("fsdd").examples(corpus, test=5, validation=0))


@pytest.fixture
def ask_images(tmp_path: Path, cache: Path) -> Ask:
    """12 + 12 images."""
    files, counts = idx_files(tmp_path), {"train": 12, "test": 12}
    return asker("mnist", tmp_path, cache, files, counts, "params.validation = 0")


def test_an_image_is_a_picture_or_rows_or_a_vector(ask_images: Ask, tmp_path: Path) -> None:
    """One tensor (28, 28) is both a picture and 28 steps of 28; the vector is stored as such."""
    folder = prepare_dataset(ask_images()).folder
    pictures = open_dataset(folder, normalize=True)["test"]
    whole = next(iter(make_loader(pictures, 12)))
    flat_folder = prepare_dataset(ask_images(features="vector")).folder
    vectors = open_dataset(flat_folder, normalize=True)["test"]
    flat = next(iter(make_loader(vectors, 12)))
    assert whole["features"].shape == (12, 28, 28)
    assert whole["lengths"].tolist() == [28] * 12
    assert flat["features"].shape == (12, 784)
    torch.testing.assert_close(flat["features"], whole["features"].flatten(1), rtol=0, atol=1e-6)
    assert flat["digit"].equal(whole["digit"])
    assert vectors[3]["features"].shape == (784,)
    for model in ("lstm", "conv2d"):
        settings = settings_for({"model": model, "epochs": 1, "device": "cpu"}, {})
        assert train(folder, settings, tmp_path / model).test is not None
    with pytest.raises(UsageError, match=r"vector .* are 784; no model fits it: prepare other"):
        train(flat_folder, settings_for({}, {"model": "lstm"}), tmp_path / "flat")
