"""Augmentation: does what it says to the example's own samples, by what the example's seed says."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import conv1d, cosine_similarity, cross_entropy

from pipeline.errors import UsageError
from pipeline.features import LogMel
from pipeline.loader import Dataset, make_loader, open_dataset
from pipeline.loader.augment import Gain, Mixup, Noise, Pitch, SpecAugment, Speed, TimeShift
from pipeline.loader.draws import seeds_of, uniform
from pipeline.prepare import Request, prepare_dataset
from tests.conftest import write_manifest
from tests.sealed import write_sealed

Batch = dict[str, Any]
RATE = 16000
LENGTHS = (16000, 9000, 12345, 16000, 400, 15999, 8000, 16000)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def tones(lengths: tuple[int, ...] = LENGTHS, hz: float = 440.0) -> Batch:
    """A batch of sines at a quarter of full scale, zeros behind each."""
    time = torch.arange(max(lengths)) / RATE
    counts = torch.tensor(lengths)
    sine = 0.25 * torch.sin(2 * torch.pi * hz * time).expand(len(lengths), -1)
    own = torch.arange(max(lengths)) < counts[:, None]
    return {
        "features": torch.where(own, sine, 0),
        "lengths": counts,
        "word": torch.arange(len(lengths)) % 3,
        "seeds": seeds_of(1, 2, np.arange(len(lengths))),
    }


def spectra(lengths: tuple[int, ...] = (101, 57, 101, 80, 1)) -> Batch:
    """A batch of ones, (B, 101, 40)."""
    counts = torch.tensor(lengths)
    own = torch.arange(max(lengths)) < counts[:, None]
    features = own[:, :, None].float().repeat(1, 1, 40)
    seeds = seeds_of(3, 0, np.arange(len(lengths)))
    return {"features": features, "lengths": counts, "seeds": seeds}


def rows_of(batch: Batch, rows: list[int]) -> Batch:
    """Some examples of a batch as one of their own, padded no further than they need."""
    part = {name: values[rows] for name, values in batch.items()}
    part["features"] = part["features"][:, : int(part["lengths"].max())]
    return part


def frequency(samples: torch.Tensor) -> float:
    """Hz of the strongest sine."""
    n = 1 << 18
    windowed = samples * torch.hann_window(len(samples), device=samples.device)
    return float(torch.fft.rfft(windowed, n).abs().argmax()) * RATE / n


@pytest.fixture(scope="module")
def waves(tmp_path_factory: pytest.TempPathFactory, commands_archive: Path, cache: Path) -> Dataset:
    """The miniature Speech Commands as waveforms, the noise in pieces, all of 0.6 s."""
    folder = tmp_path_factory.mktemp("waves")
    manifest = write_manifest(
        folder / "commands.toml",
        "speech_commands",
        {"v2": commands_archive},
        {"train": 9, "validation": 3, "test": 3},
        params="params.words = []",
        roles={"main": "v2"},
    )
    request = Request(
        "speech_commands",
        features="waveform",
        audio="duration=0.6",
        manifest=manifest,
        sources={"v2": commands_archive},
        out=folder,
        cache=cache,
        engine="serial",
    )
    return open_dataset(prepare_dataset(request).folder, key=True)


@dataclass(frozen=True)
class Halved:
    """A step of one's own."""

    def __call__(self, batch: Batch) -> Batch:
        return batch | {"features": batch["features"] * uniform(batch["seeds"], "half", 1).float()}


def on_waveforms(noise: Any) -> list[Any]:
    return [Gain(-12, 3), TimeShift(0.3), Noise(noise, 0, 20), Speed(0.8, 1.25), Pitch(4)]


KINDS = ["gain", "shift", "noise", "speed", "pitch", "spec", "shift-features"]


def augmented(kind: str, waves: Dataset) -> tuple[Any, Batch]:
    """An augmentation and a batch for it."""
    if kind == "spec":
        return SpecAugment(2, 20, 2, 8, p=0.5), spectra()
    if kind == "shift-features":
        return TimeShift(0.5), spectra()
    return on_waveforms(waves["noise"])[KINDS.index(kind)], tones()


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_is_changed_by_its_own_seed_alone(kind: str, waves: Dataset) -> None:
    """Whatever else is in its batch, however far it is padded."""
    augment, batch = augmented(kind, waves)
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
def test_workers_and_batches_change_nothing(waves: Dataset, shuffle: bool) -> None:
    steps = [*on_waveforms(waves["noise"]), Halved(), LogMel.at(RATE), SpecAugment()]
    split = waves["train"]

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


@pytest.mark.parametrize("device", DEVICES)
def test_gain_is_exact(device: str) -> None:
    batch = on(tones(), device)
    for low, high in ((-6, -6), (-20, 5)):
        louder = Gain(low, high)(batch)["features"].abs().amax(1) / batch["features"].abs().amax(1)
        decibels = 20 * louder.log10()
        drawn = low + (high - low) * uniform(batch["seeds"], "Gain", 1)[:, 0]
        torch.testing.assert_close(decibels.cpu().double(), drawn, atol=1e-4, rtol=0)
    assert len(set(decibels.tolist())) == len(LENGTHS)


def on(batch: Batch, device: str) -> Batch:
    """The batch on a device, its seeds on the CPU."""
    return {n: values if n == "seeds" else values.to(device) for n, values in batch.items()}


@pytest.mark.parametrize("device", DEVICES)
def test_noise_has_the_ratio_that_was_drawn(waves: Dataset, device: str) -> None:
    """Also where the example is longer than the noise, 9,600 samples."""
    batch = on(tones(), device)
    for low, high in ((10, 10), (-5, 30)):
        mixed = Noise(waves["noise"], low, high)(batch)
        noise = (mixed["features"] - batch["features"]).double()
        ratio = 10 * (batch["features"].double().square().sum(1) / noise.square().sum(1)).log10()
        drawn = low + (high - low) * uniform(batch["seeds"], "Noise", 3)[:, 2]
        torch.testing.assert_close(ratio.cpu(), drawn, atol=0.1, rtol=0)


def test_noise_is_a_piece_of_a_noise_clip(waves: Dataset, tmp_path: Path) -> None:
    split = waves["noise"]
    batch = tones((4000, 9600, 16000))
    noise = Noise(split, 0, 0)(batch)["features"] - batch["features"]
    clips = torch.stack([split[i]["features"] for i in range(len(split))])
    short, whole, repeated = (row[:n] for row, n in zip(noise, (4000, 9600, 16000), strict=True))
    products = conv1d(clips[:, None], short[None, None])  # with every piece of every clip
    norms = conv1d(clips.square()[:, None], torch.ones(1, 1, 4000)).sqrt() * short.norm()
    assert float((products / norms).max()) > 0.999
    assert float(cosine_similarity(clips, whole, dim=1).max()) > 0.999
    torch.testing.assert_close(repeated[9600:], repeated[:6400], atol=1e-6, rtol=0)
    silent = batch | {"features": torch.zeros_like(batch["features"])}
    assert not Noise(split, 0, 0)(silent)["features"].any()
    folder = write_sealed(tmp_path / "quiet", [np.zeros(7, np.float32)], 1, True)
    quiet = open_dataset(folder)["train"]
    assert Noise(quiet, 0, 0)(batch)["features"].equal(batch["features"])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("factor", [0.8, 0.95, 1.0, 1.1, 1.5])
def test_speed_changes_length_and_frequency(factor: float, device: str) -> None:
    batch = on(tones(), device)
    faster = Speed(factor, factor)(batch)
    wanted = [-(-n * 100 // round(factor * 100)) for n in LENGTHS]
    assert faster["lengths"].tolist() == wanted
    middle = faster["features"][0, 1000 : wanted[0] - 1000]
    assert frequency(middle) == pytest.approx(440 * factor, rel=0.003)
    assert middle.abs().max() == pytest.approx(0.25, rel=0.01)
    if factor == 1:
        assert faster["features"].equal(batch["features"])


@pytest.mark.parametrize("device", DEVICES)
def test_pitch_keeps_length_and_changes_frequency(device: str) -> None:
    batch = on(tones(hz=600.0), device)
    higher = Pitch(5)(batch)
    assert higher["lengths"].tolist() == list(LENGTHS)
    assert higher["features"].shape == batch["features"].shape
    turns = 2 * uniform(batch["seeds"], "Pitch", 1)[:, 0] - 1
    for row, n, turn in zip(higher["features"], LENGTHS, turns.tolist(), strict=True):
        if n < 8000:
            continue  # too short to hear
        factor = round(100 * 2 ** (turn * 5 / 12)) / 100
        assert frequency(row[500 : n - 500]) == pytest.approx(600 * factor, rel=0.01)
    assert len({round(frequency(row)) for row in higher["features"]}) > 3
    assert Pitch(0)(batch)["features"].equal(batch["features"])


@pytest.mark.parametrize("dims", [(), (3,)])
def test_shift_moves_within_the_example(dims: tuple[int, ...]) -> None:
    lengths = torch.tensor([10, 7, 10, 4])
    own = torch.arange(10) < lengths[:, None]
    ramp = torch.where(own, torch.arange(1.0, 11.0), 0).reshape(4, 10, *[1] * len(dims))
    batch = {"features": ramp.expand(4, 10, *dims), "lengths": lengths}
    batch["seeds"] = seeds_of(0, 0, np.arange(4))
    moved = TimeShift(0.5)(batch)["features"].reshape(4, 10, -1)[:, :, 0]
    turns = 2 * uniform(batch["seeds"], "TimeShift", 1)[:, 0] - 1
    shifts = (turns * 0.5 * lengths).round().long().tolist()
    assert min(shifts) < 0 < max(shifts)
    for row, n, shift in zip(moved, lengths.tolist(), shifts, strict=True):
        kept = [float(t + 1 - shift) if 0 <= t - shift < n else 0.0 for t in range(n)]
        assert row.tolist() == kept + [0.0] * (10 - n)


@pytest.mark.parametrize("device", DEVICES)
def test_masks_zero_stretches_and_nothing_else(device: str) -> None:
    """Every mask is a run within the example, no wider than allowed; what is left is as it was."""
    lengths = tuple(np.random.default_rng(0).integers(1, 102, 300).tolist())
    batch = on(spectra(lengths), device)
    times = SpecAugment(1, 30, 0, 0, p=0.4)(batch)["features"].cpu()
    widths = []
    for row, n in zip(times, lengths, strict=True):
        assert bool((row == row[:, :1]).all())  # whole frames
        masked = (row[:n, 0] == 0).nonzero()[:, 0]
        widths.append(len(masked))
        assert len(masked) <= min(30, int(0.4 * n))
        assert not len(masked) or int(masked[-1] - masked[0]) == len(masked) - 1
    assert max(widths) == 30
    assert min(widths) == 0
    freqs = SpecAugment(0, 0, 1, 8)(batch)["features"].cpu()
    widths = []
    for row, n in zip(freqs, lengths, strict=True):
        masked = (row[0] == 0).nonzero()[:, 0]
        widths.append(len(masked))
        assert bool((row[:n] == row[:1]).all())
        assert not len(masked) or int(masked[-1] - masked[0]) == len(masked) - 1
    assert (min(widths), max(widths)) == (0, 8)
    assert np.histogram(widths, 9, (0, 9))[0].min() > 15  # each width about as often
    reach = (freqs[:, 0] == 0).float().mean(0)
    assert float(reach.min()) > 0  # also at both edges
    assert SpecAugment(0, 0, 0, 0)(batch)["features"].equal(batch["features"])
    both = SpecAugment(2, 10, 2, 4)(batch)["features"].cpu()
    assert set(both.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("device", DEVICES)
def test_mixup_mixes_features_and_classes_in_one_share(device: str) -> None:
    batch = on(tones(), device)
    batch["features"] = torch.randn(
        batch["features"].shape, generator=torch.Generator().manual_seed(0)
    ).to(device)
    mixed = Mixup(0.4, "word", 3)(batch)
    shares = mixed["word"]
    assert shares.shape == (8, 3)
    torch.testing.assert_close(shares.sum(1), torch.ones(8, device=device))
    partners = []
    for i, (own, row) in enumerate(zip(batch["features"], mixed["features"], strict=True)):
        towards = own - batch["features"]  # row = λ·own + (1 - λ)·other, for one other alone
        share = ((row - batch["features"]) * towards).sum(1) / towards.square().sum(1)
        left = (
            (row - batch["features"] - share[:, None] * towards).norm(dim=1).nan_to_num(torch.inf)
        )
        j = int(left.argmin())
        assert float(left[j]) < 1e-3
        partners.append(j)
        expected = torch.zeros(3)
        expected[i % 3] += share[j].cpu()
        expected[j % 3] += 1 - share[j].cpu()
        torch.testing.assert_close(shares[i].cpu(), expected, atol=1e-3, rtol=0)
        assert int(mixed["lengths"][i]) == max(LENGTHS[i], LENGTHS[j])
    assert sorted(partners) == list(range(8))
    assert torch.isfinite(cross_entropy(torch.zeros(8, 3, device=device), shares))


def test_mixup_draws_its_shares_from_a_beta_distribution() -> None:
    from scipy.stats import beta, kstest

    n = 1000
    batch = {
        "features": torch.eye(n)[:, :1],
        "lengths": torch.ones(n, dtype=torch.int64),
        "seeds": seeds_of(0, 0, np.arange(n)),
        "word": torch.arange(n),
    }
    for alpha in (0.2, 1.0, 5.0):
        shares = Mixup(alpha, "word", n)(batch)["word"].diagonal().numpy()
        assert kstest(shares, beta(alpha, alpha).cdf).pvalue > 1e-4


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


def test_noise_must_be_waveforms(digits_dataset: Path, waves: Dataset) -> None:
    with pytest.raises(UsageError, match="Noise: expected waveforms, got 100 of tokens"):
        Noise(open_dataset(digits_dataset)["test"])
    with pytest.raises(UsageError, match="Noise: expected waveforms, got 0 of waveform"):
        Noise(waves["noise"].select([]))
    with pytest.raises(UsageError, match="Mixup: expected features of real numbers"):
        next(
            iter(
                make_loader(open_dataset(digits_dataset)["test"], 4, transform=Mixup(1, "sum", 19))
            )
        )
