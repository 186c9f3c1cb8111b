"""``estimate``: exact once the archive is inflated, from the manifest before."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.prepare import Request, estimate, prepare_dataset

Ask = Callable[..., Request]


def test_estimates_are_exact_once_the_archive_is_inflated(
    ask_commands: Ask, tmp_path: Path
) -> None:
    cold = tmp_path / "cold"
    before = estimate(ask_commands(cache=cold))
    assert before.rows == {"train": 9, "validation": 3, "test": 3}
    assert (before.features, before.exact) == (15 * 101 * 40 * 4, False)
    assert not (cold / "inflated").exists()
    folder = prepare_dataset(ask_commands(cache=cold)).folder
    found = estimate(ask_commands(cache=cold)).found
    assert found is not None
    assert found.folder == folder
    after = estimate(ask_commands(cache=cold, out=tmp_path / "elsewhere"))
    assert (after.rows, after.shards, after.inflated, after.exact) == (before.rows, 3, 0, True)
    assert after.hours == pytest.approx(15 / 3600, rel=0.1)
    written = sum(path.stat().st_size for path in folder.glob("*.arrow"))
    assert after.features == pytest.approx(written, rel=0.05)
    assert after.disk == after.features


def test_estimates_before_the_download_come_from_the_manifest(tmp_path: Path) -> None:
    found = estimate(Request("speech_commands", cache=tmp_path))
    assert found.download == 2_428_923_189
    assert found.hours == pytest.approx(30, rel=0.05)
    assert found.features == 105_829 * 101 * 40 * 4
    assert found.disk
    speech = estimate(Request("ljspeech", cache=tmp_path, features="log_mel@hifigan"))
    assert speech.features == pytest.approx(23.92 * 3600 * 22050 / 256 * 80 * 4, rel=0.02)
    digits = estimate(Request("digit_sum", cache=tmp_path))
    assert digits.rows == {"train": 300, "validation": 100, "test": 100}
    assert (digits.download, digits.inflated) == (0, 148_575)
    assert not any(tmp_path.iterdir())
