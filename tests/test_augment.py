"""Augmentation changes an example by its own seed alone; what makes no sense is refused."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import UsageError
from pipeline.features import LogMel
from pipeline.loader import Dataset, make_loader, open_dataset
from pipeline.loader.augment import Gain, Mixup, Noise, Pitch, SpecAugment, Speed, TimeShift
from pipeline.loader.draws import seeds_of, uniform
from tests.batches import RATE, Batch, rows_of, spectra, tones


@dataclass(frozen=True)
class Halved:
    """A step of one's own."""

    def __call__(self, batch: Batch) -> Batch:
        return batch | {"features": batch["features"] * uniform(batch["seeds"], "half", 1).float()}


def on_waveforms(noise: Any) -> list[Any]:
    return [Gain(-12, 3), TimeShift(0.3), Noise(noise, 0, 20), Speed(0.8, 1.25), Pitch(4)]


KINDS = ["gain", "shift", "noise", "speed", "pitch", "spec", "shift-features"]


def augmented(kind: str, waves_and_noise: Dataset) -> tuple[Any, Batch]:
    """An augmentation and a batch for it."""
    if kind == "spec":
        return SpecAugment(2, 20, 2, 8, p=0.5), spectra()
    if kind == "shift-features":
        return TimeShift(0.5), spectra()
    return on_waveforms(waves_and_noise["noise"])[KINDS.index(kind)], tones()


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_is_changed_by_its_own_seed_alone(kind: str, waves_and_noise: Dataset) -> None:
    """Whatever else is in its batch, however far it is padded."""
    augment, batch = augmented(kind, waves_and_noise)
    before = {name: values.clone() for name, values in batch.items()}
    whole = augment(batch)
    assert all(values.equal(before[name]) for name, values in batch.items())  # not in place
    for rows in ([4, 1], [3], [2, 4, 0]):
        part = augment(rows_of(batch, rows))
        assert part["lengths"].equal(whole["lengths"][rows])
        own = whole["features"][rows][:, : part["features"].shape[1]]
        torch.testing.assert_close(part["features"], own, atol=2e-6, rtol=0)
    others = augment(batch | {"seeds": seeds_of(1, 3, np.arange(len(batch["lengths"])))})
    assert not others["features"].equal(whole["features"])
    places = torch.arange(whole["features"].shape[1])
    padding = places >= whole["lengths"][:, None]
    assert not whole["features"][padding].any()
    assert int(whole["lengths"].max()) == whole["features"].shape[1]
    assert torch.isfinite(whole["features"]).all()
    assert augment == pickle.loads(pickle.dumps(augment)) or kind == "noise"


@pytest.mark.parametrize("shuffle", [False, True])
def test_workers_and_batches_change_nothing(waves_and_noise: Dataset, shuffle: bool) -> None:
    steps = [*on_waveforms(waves_and_noise["noise"]), Halved(), LogMel.at(RATE), SpecAugment()]
    split = waves_and_noise["train"]

    def made(**options: Any) -> dict[str, torch.Tensor]:
        loader = make_loader(split, seed=5, transform=steps, shuffle=shuffle, **options)
        return {
            key: features[:n]
            for b in loader
            for key, features, n in zip(b["key"], b["features"], b["lengths"], strict=True)
        }

    wanted = made(batch_size=9)
    again = made(batch_size=9, num_workers=2)
    assert all(again[key].equal(wanted[key]) for key in wanted)
    for options in ({"batch_size": 2}, {"batch_size": 4, "device": "cpu"}):
        for key, features in made(**options).items():
            torch.testing.assert_close(features, wanted[key], atol=0.02, rtol=0)  # dB


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gain(3, 1), r"Gain: high=1: expected low=3 or more, in dB"),
        (lambda: TimeShift(1.5), "TimeShift: share=1.5: expected 0 to 1"),
        (lambda: Speed(0.1, 1), "expected 0.5 to 2.0"),
        (lambda: Speed(1.2, 1.1), "expected 0.5 to 2.0"),
        (lambda: Pitch(13), "Pitch: semitones=13: expected 0 to 12"),
        (lambda: SpecAugment(time_width=-1), "SpecAugment: time_width=-1: expected 0 or more"),
        (lambda: SpecAugment(p=2), "SpecAugment: p=2: expected 0 to 1"),
        (lambda: Mixup(0, "word", 3), "Mixup: alpha=0: expected more than 0"),
        (lambda: Gain()(spectra()), r"Gain: expected waveforms .*put it before the feature"),
        (lambda: SpecAugment()(tones()), r"SpecAugment: .*put it behind the feature"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_noise_must_be_waveforms(digits_dataset: Path, waves_and_noise: Dataset) -> None:
    with pytest.raises(UsageError, match="Noise: expected waveforms, got 100 of tokens"):
        Noise(open_dataset(digits_dataset)["test"])
    with pytest.raises(UsageError, match="Noise: expected waveforms, got 0 of waveform"):
        Noise(waves_and_noise["noise"].select([]))
    with pytest.raises(UsageError, match="Mixup: expected features of real numbers"):
        next(
            iter(
                make_loader(open_dataset(digits_dataset)["test"], 4, transform=Mixup(1, "sum", 19))
            )
        )
