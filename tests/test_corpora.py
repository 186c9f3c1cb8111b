"""What each corpus must look like: its splits and labels, and what is wrong with it, by name."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from pipeline.archive import Reader
from pipeline.audio import Audio
from pipeline.errors import RecipeError
from tests.conftest import recipe_module
from tests.miniatures import corpus_of, idx_files, splits_of, tar_of

DIGITS_SHA = "14fb5cda7e642d56e7d38eeb03ae05c2d2b926518b4446678f9074fbdeaf8848"


def test_digit_sum_is_drawn_as_the_tutorial_draws_it(tmp_path: Path) -> None:
    module = recipe_module("digit_sum")
    module.tutorial(tmp_path / "x")
    text = (tmp_path / "x").read_bytes()
    assert hashlib.sha256(text).hexdigest() == DIGITS_SHA
    lines = text.decode().splitlines()
    corpus = corpus_of(sequences=tmp_path / "x")
    reader = Reader({"sequences": tmp_path / "x"})
    found = list(module.examples(corpus, lengths=[5, 10, 15, 20, 25, 30, 35]))
    assert len(found) == len(lines) == 3500
    for example, line in zip(found, lines, strict=True):
        digits, total = line.split("\t")
        tokens = module.load([reader.piece(example.refs[0])], None)
        assert " ".join(map(str, tokens)) == digits
        assert example.labels["sum"] == int(total) == tokens[0] + tokens[1]


@pytest.mark.parametrize(("length", "k", "seed"), [(3, 1, 0), (50, 2, 7), (1000, 1, 1)])
def test_digit_sum_free_holds_any_length(tmp_path: Path, length: int, k: int, seed: int) -> None:
    module = recipe_module("digit_sum")
    module.free(tmp_path / "x", length, k, seed)
    corpus = corpus_of(sequences=tmp_path / "x")
    found = list(module.examples(corpus, length=length, k=k, seed=seed))
    assert [e.split for e in found].count("train") == 100 * k
    reader = Reader({"sequences": tmp_path / "x"})
    for example in found:
        tokens = module.load([reader.piece(example.refs[0])], None)
        assert len(tokens) == length
        assert tokens[0] + tokens[1] == example.labels["sum"]
        assert (tokens[2:] > 0).sum() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [({"length": 2}, "length=2"), ({"k": 0}, "k=0"), ({"seed": -1}, "seed=-1")],
)
def test_digit_sum_refuses_what_makes_no_sense(
    tmp_path: Path, change: dict[str, int], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_module("digit_sum").free(
            tmp_path / "x", **({"length": 5, "k": 1, "seed": 0} | change)
        )


def test_speech_commands_follows_its_lists(tmp_path: Path) -> None:
    clips = [f"{w}/{s:08x}_nohash_{n}.wav" for w in ("yes", "no") for s in range(6) for n in (0, 1)]
    members = {f"./{clip}": b"x" for clip in clips}
    members |= {"./_background_noise_/hum.wav": b"x", "./README.md": b"x"}
    members["./validation_list.txt"] = "\n".join(clips[:3]).encode() + b"\nno/gone_nohash_0.wav\n"
    members["./testing_list.txt"] = "\n".join(clips[3:5]).encode()
    corpus = corpus_of(main=tar_of(tmp_path / "x.tar", members))
    module = recipe_module("speech_commands")
    splits = splits_of(module.examples(corpus, words=[]))
    assert {s: len(keys) for s, keys in splits.items()} == {"train": 19, "validation": 3, "test": 2}
    assert set(splits["validation"]) == {c.removesuffix(".wav") for c in clips[:3]}
    few = list(module.examples(corpus, words=["no"]))
    assert {e.labels["word"] for e in few} == {"no"}
    assert few[0].labels["speaker"] == "00000000"
    with pytest.raises(RecipeError, match="no clip of the words go, up"):
        list(module.examples(corpus, words=["no", "up", "go"]))


def test_noise_recordings_are_cut_into_pieces(tmp_path: Path) -> None:
    """No sample stands in two of them; what is shorter than a piece is left out."""
    ramp = np.arange(2 * 16000 + 5).astype("<i2")
    header = struct.pack(
        "<4sI4s4sIHHIIHH", b"RIFF", 0, b"WAVE", b"fmt ", 16, 1, 1, 16000, 32000, 2, 16
    )
    odd = header + struct.pack("<4sI4s", b"LIST", 4, b"INFO")  # samples begin later than usual
    data = struct.pack("<4sI", b"data", ramp.nbytes) + ramp.tobytes()
    folder = "./_background_noise_/"
    members = {f"{folder}a.wav": header + data, f"{folder}b.wav": odd + data}
    members |= {f"{folder}c.wav": b"x", f"{folder}README.md": b"x", "./yes/a_nohash_0.wav": b"x"}
    corpus = corpus_of(main=tar_of(tmp_path / "x.tar", members))
    module = recipe_module("speech_commands")
    names = [f"_background_noise_/{name}" for name in "abc"]
    whole = list(module.noise(corpus, None))
    assert [e.key for e in whole] == names
    found = list(module.noise(corpus, 1.0))
    pieces = [f"{name}-{i:04d}" for name in names[:2] for i in (0, 1)]
    assert [e.key for e in found] == [
        *pieces,
        names[2],
    ]  # the damaged one is named by who builds it
    assert {(e.split, e.labels["word"], e.labels["speaker"]) for e in found} == {
        ("noise", None, "")
    }
    reader = Reader({"main": tmp_path / "x.tar"})
    for example, second in zip(found[:4], (0, 1, 0, 1), strict=True):
        samples = module.load_audio([reader.piece(example.refs[0])], Audio(16000)) * 32768
        np.testing.assert_array_equal(samples, ramp[second * 16000 :][:16000])


def test_an_archive_that_lacks_its_lists_is_named(tmp_path: Path) -> None:
    corpus = corpus_of(main=tar_of(tmp_path / "x.tar", {"./yes/a_nohash_0.wav": b"x"}))
    with pytest.raises(RecipeError, match=r"x\.tar: expected a member validation_list\.txt"):
        list(recipe_module("speech_commands").examples(corpus, words=[]))
    archive = corpus_of(archive=tmp_path / "x.tar")
    with pytest.raises(RecipeError, match=r"expected a member LJSpeech-1\.1/metadata\.csv"):
        list(recipe_module("ljspeech").examples(archive, validation=1, test=1))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_ljspeech_holds_out_the_last_ids(tmp_path: Path, end: str) -> None:
    names = [f"LJ{c:03d}-{i:04d}" for c in (2, 1) for i in range(1, 6)]
    table = end.join(f'{n}|Dr. "{n}"|Doctor "{n}"' for n in names)
    members = {f"LJSpeech-1.1/wavs/{n}.wav": b"x" for n in names}
    members["LJSpeech-1.1/metadata.csv"] = (table + end).encode()
    corpus = corpus_of(archive=tar_of(tmp_path / "x.tar", members))
    found = list(recipe_module("ljspeech").examples(corpus, validation=2, test=3))
    splits = splits_of(iter(found))
    assert splits["train"] == sorted(names)[:5]
    assert splits["validation"] == sorted(names)[5:7]
    assert splits["test"] == sorted(names)[7:]
    assert found[0].labels == {
        "text": 'Dr. "LJ001-0001"',
        "normalized_text": 'Doctor "LJ001-0001"',
        "tokens": 'Doctor "LJ001-0001"',
    }
    with pytest.raises(RecipeError, match=r"of 10 clips 3 \+ 7 can't be held out"):
        list(recipe_module("ljspeech").examples(corpus, validation=3, test=7))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (b"LJ001-0001|only text\n", "line 1: expected id|text|normalized text, got 2 fields"),
        (b"\xff\xfe|a|b\n", "expected UTF-8 text"),
        (b"LJ001-0009|a|b\nLJ001-0002|a|b\nLJ3|a|b", r"expected a member LJSpeech-1\.1/wavs"),
    ],
)
def test_ljspeech_metadata_that_is_wrong_is_named(
    tmp_path: Path, metadata: bytes, message: str
) -> None:
    members = {"LJSpeech-1.1/metadata.csv": metadata, "LJSpeech-1.1/wavs/x.wav": b"x"}
    corpus = corpus_of(archive=tar_of(tmp_path / "x.tar", members))
    with pytest.raises(RecipeError, match=message.replace("|", r"\|")):
        list(recipe_module("ljspeech").examples(corpus, validation=1, test=1))


def test_mnist_keeps_the_last_of_train_as_validation(tmp_path: Path) -> None:
    module = recipe_module("mnist")
    corpus = corpus_of(**idx_files(tmp_path))
    found = list(module.examples(corpus, validation=3))
    splits = splits_of(iter(found))
    assert splits["validation"] == ["train-00009", "train-00010", "train-00011"]
    assert (len(splits["train"]), len(splits["test"])) == (9, 12)
    reader = Reader({s.name: s.path for s in corpus.sources.values()})
    image = module.load([reader.piece(found[1].refs[0])], None)
    np.testing.assert_array_equal(image.ravel(), np.arange(784, 1568).astype(np.uint8))
    assert found[1].labels == {"digit": 1}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"labels": 11}, "mnist train: 12 images, but 11 labels"),
        ({"cut": 5}, "header promises 12 items"),
        ({"magic": 9}, "expected an IDX header of 3 dimensions, got 00000903"),
        ({"empty": True}, "expected an IDX header of 3 dimensions, got"),
    ],
)
def test_idx_files_that_are_wrong_are_named(
    tmp_path: Path, damage: dict[str, int], message: str
) -> None:
    files = idx_files(tmp_path, labels=damage.get("labels", 12))
    data = bytearray(files["train-images"].read_bytes())
    data[2] = damage.get("magic", 8)
    kept = 0 if damage.get("empty") else len(data) - damage.get("cut", 0)
    files["train-images"].write_bytes(data[:kept])
    with pytest.raises(RecipeError, match=message):
        list(recipe_module("mnist").examples(corpus_of(**files), validation=0))
