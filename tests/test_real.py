"""The real recordings and images, where they are beside the project."""

import re
from collections import Counter
from pathlib import Path

import pytest
import torch

from pipeline.characters import normalise
from pipeline.loader import make_loader, open_dataset
from pipeline.loader.augment import Noise
from pipeline.prepare import Prepared, Request, prepare_dataset
from pipeline.train import TASKS, settings_for, train
from pipeline.train.checkpoint import load
from pipeline.train.evaluation import evaluate
from pipeline.train.fitting import rebuilt
from tests.conftest import real_data, write_manifest
from tests.miniatures import TEN, companion

pytestmark = pytest.mark.real
HERE = Path(__file__).parent / "real"
CPU = torch.device("cpu")


def images() -> dict[str, Path]:
    """The four files of MNIST by the names of their sources."""
    theirs = {"images": "images-idx3-ubyte.gz", "labels": "labels-idx1-ubyte.gz"}
    return {
        f"{part}-{what}": real_data() / "mnist" / f"{name}-{file}"
        for part, name in {"train": "train", "test": "t10k"}.items()
        for what, file in theirs.items()
    }


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> "dict[str, Prepared]":
    """All four corpora, prepared once by two local workers."""
    out = tmp_path_factory.mktemp("real")
    data = real_data()
    requests = {
        "speech_commands": {
            "manifest": HERE / "speech_commands.toml",
            "sources": {"v1": data / "speech_commands_v0.01_subset.tar.gz"},
        },
        "ljspeech": {
            "manifest": HERE / "ljspeech.toml",
            "sources": {"archive": data / "LJSpeech-1.1_subset.tar.bz2"},
        },
        "mnist": {"protocol": "last-5000", "sources": images()},
        "fsdd": {"sources": {"archive": data / "free-spoken-digit-dataset.tar.gz"}},
    }
    return {
        name: prepare_dataset(
            Request(name, out=out, cache=cache, workers=2, offline=True, **options)  # type: ignore[arg-type]
        )
        for name, options in requests.items()
    }


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("speech_commands", {"train": 1537, "validation": 229, "test": 234}),
        ("ljspeech", {"train": 105, "validation": 10, "test": 20}),
        ("mnist", {"train": 55000, "validation": 5000, "test": 10000}),
        ("fsdd", {"train": 2700, "test": 300}),
    ],
)
def test_every_promise_holds(build: dict[str, Prepared], name: str, rows: dict[str, int]) -> None:
    assert build[name].rows == rows
    assert build[name].bad == 0


def test_waveforms_give_what_was_prepared_and_noise(
    build: dict[str, Prepared], tmp_path: Path, cache: Path
) -> None:
    """The recordings' headers are longer than 44 bytes: 95, 61, 61, 60, 61 and 60 whole seconds."""
    request = Request(
        "speech_commands",
        features="waveform",
        manifest=HERE / "speech_commands.toml",
        sources={"v1": real_data() / "speech_commands_v0.01_subset.tar.gz"},
        out=tmp_path,
        cache=cache,
        workers=2,
        offline=True,
    )
    done = prepare_dataset(request)
    assert done.rows == {"train": 1537, "validation": 229, "test": 234, "noise": 398}
    waves, prepared = open_dataset(done.folder), open_dataset(build["speech_commands"].folder)
    made = make_loader(waves["test"], 64, transform=prepared.sealed.feature)
    for wanted, batch in zip(make_loader(prepared["test"], 64), made, strict=True):
        assert batch["features"].equal(wanted["features"])
        assert batch["lengths"].equal(wanted["lengths"])
    mixed = make_loader(waves["train"], 64, transform=Noise(waves["noise"], 5, 5))
    plain, noisy = next(iter(make_loader(waves["train"], 64)))["features"], next(iter(mixed))
    noise = noisy["features"] - plain
    ratio = 10 * (plain.square().sum(1) / noise.square().sum(1)).log10()
    torch.testing.assert_close(ratio, torch.full((64,), 5.0), atol=0.1, rtol=0)


def test_mnist_is_what_everybody_knows(build: dict[str, Prepared]) -> None:
    train_split = open_dataset(build["mnist"].folder, key=True)["train"]
    statistics = train_split.sealed.info["statistics"]
    assert statistics["mean"][0] / 255 == pytest.approx(0.1307, abs=5e-4)
    assert statistics["std"][0] / 255 == pytest.approx(0.3081, abs=5e-4)
    digits = {}
    for batch in make_loader(train_split, 1000):
        digits |= dict(zip(batch["key"], batch["digit"].tolist(), strict=True))
    assert [digits[f"train-{i:05d}"] for i in range(10)] == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


def test_ljspeech_has_its_texts(build: dict[str, Prepared]) -> None:
    data = open_dataset(build["ljspeech"].folder, key=True)
    texts = {split[i]["key"]: split[i] for split in data.values() for i in range(len(split))}
    first = texts["LJ001-0001"]
    assert first["text"].startswith("Printing, in the only sense with which we are at present")
    assert first["features"].shape[1] == 40
    assert texts["LJ001-0007"]["normalized_text"].endswith("fourteen fifty-five,")


def test_ljspeech_has_its_characters(build: dict[str, Prepared]) -> None:
    """Every clip's tokens are its normalised text, but for letters that no clip of train has."""
    data = open_dataset(build["ljspeech"].folder)
    alphabet = data["train"].alphabets["tokens"]
    assert alphabet.characters == " 'abcdefghijklmnopqrstuvwxyz"
    for split in data.values():
        for batch in make_loader(split, 16):
            rows = zip(batch["tokens"].tolist(), batch["tokens_lengths"].tolist(), strict=True)
            found = [alphabet.decode(tokens[:n]) for tokens, n in rows]
            assert found == [normalise(text) for text in batch["normalized_text"]]


def test_images_are_rows_and_vectors(
    build: dict[str, Prepared], tmp_path: Path, cache: Path
) -> None:
    request = Request(
        "mnist",
        protocol="last-5000",
        features="vector",
        sources=images(),
        out=tmp_path,
        cache=cache,
        workers=2,
        offline=True,
    )
    flat = open_dataset(prepare_dataset(request).folder)["test"]
    rows = open_dataset(build["mnist"].folder)["test"]
    for one, other in zip(make_loader(flat, 1000), make_loader(rows, 1000), strict=True):
        assert one["features"].shape == (1000, 784)
        assert other["features"].shape == (1000, 28, 28)
        assert one["features"].equal(other["features"].flatten(1))


def test_spoken_digits_are_split_and_resampled(build: dict[str, Prepared]) -> None:
    """Six speakers, ten digits, five and 45 times; two samples for each one at 8 kHz."""
    data = open_dataset(build["fsdd"].folder, key=True)
    names = data.sealed.classes["digit"]
    for split, times in (("test", 5), ("train", 45)):
        part = data[split]
        pairs = Counter(
            zip(part.column("digit").tolist(), part.column("speaker").tolist(), strict=True)
        )
        assert len(pairs) == 60
        assert set(pairs.values()) == {times}
        for key, digit in zip(part.column("key"), part.column("digit"), strict=True):
            said, _, number = key.split("_")
            assert said == names[digit]
            assert (int(number) < 5) == (split == "test")
    longest = data["train"].filter("key", ["9_theo_16"])[0]  # 18,262 samples at 8 kHz
    assert longest["lengths"] == 1 + 2 * 18262 // 160


def test_twelve_classes_of_real_words_and_noise(tmp_path: Path, cache: Path) -> None:
    """668 and 121 seconds of silence, as ``v1-12`` and ``v2-12`` promise; only test is made up."""
    files = {
        "v1": real_data() / "speech_commands_v0.01_subset.tar.gz",
        "v1-test": companion(tmp_path / "test.tar"),
    }
    manifest = write_manifest(
        tmp_path / "twelve.toml",
        "speech_commands",
        files,
        {"train": 1537 + 668, "validation": 229 + 121, "test": 16},
        f"params.words = {list(TEN)!r}",
        roles={"main": "v1", "test": "v1-test"},
    )
    request = Request(
        "speech_commands",
        features="waveform",
        manifest=manifest,
        sources=files,
        out=tmp_path,
        cache=cache,
        workers=2,
        offline=True,
    )
    done = prepare_dataset(request)
    assert done.bad == 0
    assert done.rows["noise"] == 398 - 61  # without running_tap
    data = open_dataset(done.folder)
    assert data.sealed.classes["word"] == ("_silence_", "_unknown_", *TEN)
    for split, windows in (("train", 668), ("validation", 121)):
        silence = data[split].filter("word", ["_silence_"])
        assert len(silence) == windows
        assert set(silence.column("lengths").tolist()) == {16_000}
        assert set(silence.column("speaker").tolist()) == {""}


def test_a_small_conv2d_learns_real_words(build: dict[str, Prepared], tmp_path: Path) -> None:
    """Six epochs are enough to be far above chance (8.5 %) on unseen speakers."""
    torch.set_num_threads(2)
    settings = settings_for({"model": "conv2d", "epochs": 6}, {})
    end = train(build["speech_commands"].folder, settings, tmp_path)
    assert end.test is not None
    assert end.test.scores["accuracy"] > 0.25


@pytest.mark.slow
def test_the_loop_of_the_readme_learns_digits(
    build: dict[str, Prepared], capsys: pytest.CaptureFixture[str]
) -> None:
    """Copied as it stands, on 55,000 of the images."""
    text = (HERE.parent.parent / "README.md").read_text()
    (loop,) = (b for b in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if "Rows" in b)
    code = re.sub(r'"data/mnist/[^"]+"', repr(str(build["mnist"].folder)), loop)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a model this small, several wait for one another
    exec(code, {})  # our own document
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert float(printed.removeprefix("test accuracy ")) > 0.95


@pytest.mark.slow
def test_a_small_conv2d_learns_spoken_digits(build: dict[str, Prepared], tmp_path: Path) -> None:
    """The same speakers in train and test: two epochs are enough."""
    settings = settings_for({"model": "conv2d", "epochs": 2}, {"target": "digit"})
    end = train(build["fsdd"].folder, settings, tmp_path)
    assert end.test is not None
    assert end.test.scores["accuracy"] > 0.6


@pytest.mark.slow
def test_an_lstm_reads_images_row_by_row(build: dict[str, Prepared], tmp_path: Path) -> None:
    """The exercise: one epoch, then the first 2,000 images of test."""
    train(build["mnist"].folder, settings_for({"model": "lstm"}, {}), tmp_path)
    images = open_dataset(build["mnist"].folder)["test"]
    first = images.filter("key", lambda keys: keys < "test-02000")
    assert len(first) == 2000
    saved = load(tmp_path)
    found = evaluate(
        rebuilt(saved), TASKS["classify"], first, "digit", saved.description.names, CPU
    )
    assert found.scores["accuracy"] >= 0.95
