"""``prepare_dataset``: the same bytes however it is walked."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.dataset import NAME, open_sealed, verify
from pipeline.errors import (
    BuildError,
    FeatureError,
    OutputError,
)
from pipeline.prepare import Request, estimate, prepare_dataset
from pipeline.shard import read_shard
from tests.conftest import write_manifest
from tests.miniatures import tar_of

Ask = Callable[..., Request]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_dataset_is_sealed_and_found_again(ask_commands: Ask) -> None:
    done = prepare_dataset(ask_commands())
    assert done.rows == {"train": 9, "validation": 3, "test": 3}
    assert (done.bad, done.up_to_date) == (0, False)
    assert done.folder.name.startswith("mini-mfcc-")
    assert verify(done.folder, lambda size: None) == []
    before = contents(done.folder)
    assert set(before) == {
        NAME,
        *(f"{s}-00000-of-00001.{e}" for s in done.rows for e in ("arrow", "json")),
    }
    again = prepare_dataset(ask_commands())
    assert again.up_to_date
    assert again.folder == done.folder
    assert contents(done.folder) == before


def test_the_number_of_workers_never_changes_a_byte(
    ask_commands: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.plan.SMALLEST_SHARD", 20_000)  # several shards of 16 kB clips
    one = prepare_dataset(ask_commands())
    assert len(list(one.folder.glob("*.arrow"))) > 5
    expected = contents(one.folder)
    for workers in (1, 2, 3):
        request = ask_commands(engine="local", workers=workers, out=tmp_path / f"w{workers}")
        assert contents(prepare_dataset(request).folder) == expected


@pytest.mark.parametrize(
    "features", ["mfcc", "log_mel:n_mels=40", "spectrogram:values=log", "waveform"]
)
@pytest.mark.parametrize("audio", ["", "duration=none", "sample_rate=8000,duration=0.5"])
def test_every_kind_is_prepared(ask_commands: Ask, features: str, audio: str) -> None:
    resampled = "sample_rate" in audio
    if resampled and features == "waveform":
        features = "waveform:dtype=float32"
    windows = "" if features.startswith("waveform") else "n_fft=512,win_length=200,hop_length=80"
    if resampled and windows:
        features += ("," if ":" in features else ":") + windows
    done = prepare_dataset(ask_commands(features=features, audio=audio))
    sealed = open_sealed(done.folder)
    kind = features.partition(":")[0]
    assert sealed.feature.kind == kind
    assert (sealed.columns.shape[0] is None) == ("none" in audio)
    mean = sealed.info["statistics"]["mean"]
    assert len(mean) == (1 if kind == "waveform" else sealed.columns.shape[1])


def test_waveforms_come_with_noise(ask_commands: Ask) -> None:
    """15 s in pieces of a second; other features are named and made as if there were none."""
    whole = prepare_dataset(ask_commands(features="waveform", audio="duration=none"))
    assert whole.rows == {"train": 9, "validation": 3, "test": 3, "noise": 3}
    pieces = prepare_dataset(ask_commands(features="waveform"))
    assert pieces.rows == {"train": 9, "validation": 3, "test": 3, "noise": 15}
    sealed = open_sealed(pieces.folder)
    assert sealed.info["recipe"] == {"name": "speech_commands", "version": 1, "noise": True}
    assert sealed.classes["word"] == ("down", "go", "yes")
    assert sealed.info["promised"] == {"train": 9, "validation": 3, "test": 3}
    shard = read_shard(pieces.folder / "noise-00000-of-00001.arrow", sealed.columns)
    assert set(shard.labels["word"].to_pylist()) == {-1}
    assert shard.values.shape == (15, 16000)
    assert estimate(ask_commands(features="waveform")).rows == pieces.rows
    assert prepare_dataset(ask_commands(features="waveform")).up_to_date


def test_other_corpora_are_prepared(ask_phrases: Ask, ask_digits: Ask) -> None:
    phrases = prepare_dataset(ask_phrases())
    assert phrases.rows == {"train": 6, "validation": 2, "test": 4}
    digits = prepare_dataset(ask_digits(protocol="all"))
    assert digits.rows == {"train": 2100, "validation": 700, "test": 700}
    free = prepare_dataset(ask_digits(protocol="free", params="length=50,k=2,seed=5"))
    assert free.rows == {"train": 200, "validation": 100, "test": 100}
    info = json.loads((free.folder / NAME).read_text())
    assert info["protocol"]["params"] == {"length": 50, "k": 2, "seed": 5}
    assert info["classes"]["sum"] == [str(n) for n in range(19)]


def test_what_is_declared_names_the_folder(ask_digits: Ask, ask_commands: Ask) -> None:
    asked = [
        ask_digits(),
        ask_digits(protocol="len-10"),
        ask_digits(features="tokens:vocabulary=11"),
        ask_commands(),
        ask_commands(audio="duration=none"),
        ask_commands(features="mfcc:n_mels=40"),
        ask_commands(params="words=yes+go"),
    ]
    assert len({prepare_dataset(request).folder for request in asked}) == len(asked)


def test_dataset_json_says_where_all_comes_from(ask_commands: Ask, commands_archive: Path) -> None:
    folder = prepare_dataset(ask_commands()).folder
    text = (folder / NAME).read_text()
    info = json.loads(text)
    assert info["format"] == 1
    assert info["recipe"] == {"name": "speech_commands", "version": 1}
    assert info["features"]["kind"] == "mfcc"
    assert info["audio"]["duration"] == 1.0
    assert info["classes"]["word"] == ["down", "go", "yes"]
    assert info["corpus"]["licence"] == "CC0-1.0"
    assert info["promised"] == {"train": 9, "validation": 3, "test": 3}
    assert len(info["sources"]["main"]) == 64
    libraries = {"numpy", "scipy", "soundfile", "soxr", "pyarrow", "spectra"}
    assert set(info["versions"]) == libraries
    assert str(folder.parent) not in text  # no path of this machine
    assert str(commands_archive.parent) not in text


def test_a_run_goes_on_where_the_last_one_ended(ask_commands: Ask) -> None:
    folder = prepare_dataset(ask_commands()).folder
    expected = contents(folder)
    (folder / NAME).unlink()
    (folder / "test-00000-of-00001.json").unlink()
    (folder / "train-00000-of-00001.arrow").write_bytes(b"half")
    kept = (folder / "validation-00000-of-00001.arrow").stat().st_mtime_ns
    done = prepare_dataset(ask_commands())
    assert not done.up_to_date
    assert contents(folder) == expected
    assert (folder / "validation-00000-of-00001.arrow").stat().st_mtime_ns == kept


@pytest.fixture
def ask_broken(tmp_path: Path, cache: Path) -> Ask:
    """A corpus of one good clip and three bad ones."""
    import numpy as np

    from tests.test_audio import DATA, FMT, chunk, encode, riff

    members = {
        "./yes/00000000_nohash_0.wav": riff(chunk(b"fmt ", FMT), chunk(b"data", DATA * 2000)),
        "./yes/00000001_nohash_0.wav": b"this is no audio",
        "./yes/00000002_nohash_0.wav": riff(chunk(b"fmt ", FMT), chunk(b"data", b"")),
        "./yes/00000003_nohash_0.wav": encode(np.array([np.nan]), 16000, "WAV", "FLOAT"),
        "./validation_list.txt": b"",
        "./testing_list.txt": b"",
    }
    archive = tar_of(tmp_path / "broken.tar", members)
    manifest = write_manifest(
        tmp_path / "broken.toml",
        "speech_commands",
        {"v2": archive},
        {"train": 4},
        params="params.words = []",
        roles={"main": "v2"},
    )

    def ask(**changes: object) -> Request:
        return Request(
            "speech_commands",
            manifest=manifest,
            sources={"v2": archive},
            out=tmp_path / "data",
            cache=cache,
            engine="serial",
            **changes,  # type: ignore[arg-type]
        )

    return ask


def test_bad_clips_are_named_with_their_reasons(ask_broken: Ask) -> None:
    with pytest.raises(BuildError) as caught:
        prepare_dataset(ask_broken(max_bad=2))
    message = str(caught.value)
    assert message.startswith("3 bad clips, 2 allowed; leave them out with --max-bad 3:\n")
    assert "yes/00000001_nohash_0: not readable as audio" in message
    assert "yes/00000002_nohash_0: the clip holds no samples (source v2, bytes " in message
    assert "yes/00000003_nohash_0: the clip holds NaN or infinite samples" in message
    done = prepare_dataset(ask_broken(max_bad=3))
    assert (done.rows, done.bad, done.odd) == ({"train": 1}, 3, 1)
    listed = json.loads((done.folder / NAME).read_text())["findings"]
    assert {"key", "split", "source", "offset", "size", "reason", "left_out"} == set(listed[0])
    left_out = {finding["key"]: finding["left_out"] for finding in listed}
    assert left_out == {f"yes/0000000{i}_nohash_0": i > 0 for i in range(4)}
    assert prepare_dataset(ask_broken(max_bad=3)).odd == 1


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_damaged_shard_is_built_again(ask_commands: Ask, damage: str) -> None:
    folder = prepare_dataset(ask_commands()).folder
    expected = contents(folder)
    shard = folder / "train-00000-of-00001.arrow"
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-1])
    assert not prepare_dataset(ask_commands()).up_to_date
    assert contents(folder) == expected


def test_fewer_bad_clips_or_other_promises_are_not_up_to_date(ask_broken: Ask) -> None:
    prepare_dataset(ask_broken(max_bad=3))
    assert prepare_dataset(ask_broken(max_bad=3)).up_to_date
    with pytest.raises(BuildError, match="3 bad clips, 0 allowed"):
        prepare_dataset(ask_broken())


def test_a_changed_inflated_copy_is_not_trusted(ask_commands: Ask, tmp_path: Path) -> None:
    cold = tmp_path / "cold"
    expected = contents(prepare_dataset(ask_commands(cache=cold)).folder)
    (plain,) = (cold / "inflated").glob("*.plain")
    data = bytearray(plain.read_bytes())
    data[100_000:100_004] = b"evil"
    plain.write_bytes(data)
    again = prepare_dataset(ask_commands(cache=cold, out=tmp_path / "again"))
    assert contents(again.folder) == expected


def test_values_are_taken_as_well_as_texts(ask_commands: Ask) -> None:
    from pipeline import Audio, LogMel

    by_text = ask_commands(features="log_mel:n_mels=40", audio="duration=0.5", params="words=yes")
    by_value = ask_commands(
        features=LogMel.at(16000, n_mels=40),
        audio=Audio(16000, duration=0.5),
        params={"words": ["yes"]},
    )
    assert prepare_dataset(by_value).folder == prepare_dataset(by_text).folder
    with pytest.raises(FeatureError, match="for 8000 Hz, but the audio is 16000 Hz"):
        prepare_dataset(ask_commands(features=LogMel.at(8000, n_mels=40)))


def test_resampled_waveforms_are_float32(ask_commands: Ask) -> None:
    for audio, dtype in (
        ("", "int16"),
        ("duration=none", "int16"),
        ("sample_rate=8000", "float32"),
    ):
        folder = prepare_dataset(ask_commands(features="waveform", audio=audio)).folder
        assert open_sealed(folder).columns.dtype == dtype


def test_two_runs_at_once_do_not_harm_each_other(ask_commands: Ask, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    expected = contents(prepare_dataset(ask_commands()).folder)
    for attempt in range(3):
        request = ask_commands(out=tmp_path / f"both{attempt}")
        with ThreadPoolExecutor(2) as pool:
            done = list(pool.map(prepare_dataset, [request, request]))
        assert sorted(d.up_to_date for d in done) == [False, True]
        assert contents(done[0].folder) == expected


def test_what_is_not_ours_stays(ask_digits: Ask) -> None:
    """Another file in a dataset's folder stops a build, and is never removed."""
    folder = prepare_dataset(ask_digits()).folder
    mine = [folder / name for name in ("my-results.json", "backup.arrow")]
    hidden = folder / ".DS_Store"
    for path in (*mine, hidden):
        path.write_text("mine")
    next(folder.glob("train-*.arrow")).write_bytes(b"damaged")
    with pytest.raises(OutputError, match="which is no part of a dataset"):
        prepare_dataset(ask_digits())
    assert all(path.read_text() == "mine" for path in mine)
    for path in mine:
        path.unlink()
    (folder / "train-00007-of-00009.arrow").write_bytes(b"of another plan")
    prepare_dataset(ask_digits())
    assert hidden.read_text() == "mine"
    assert not (folder / "train-00007-of-00009.arrow").exists()
