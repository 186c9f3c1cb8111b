"""What each augmentation does to samples and frames: as much of it as was drawn, no more."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import conv1d, cosine_similarity, cross_entropy

from pipeline.loader import Dataset, open_dataset
from pipeline.loader.augment import Gain, Mixup, Noise, Pitch, SpecAugment, Speed, TimeShift
from pipeline.loader.draws import seeds_of, uniform
from tests.batches import DEVICES, LENGTHS, RATE, on, spectra, tones
from tests.sealed import write_sealed


def frequency(samples: torch.Tensor) -> float:
    """Hz of the strongest sine."""
    n = 1 << 18
    windowed = samples * torch.hann_window(len(samples), device=samples.device)
    return float(torch.fft.rfft(windowed, n).abs().argmax()) * RATE / n


@pytest.mark.parametrize("device", DEVICES)
def test_gain_is_exact(device: str) -> None:
    batch = on(tones(), device)
    for low, high in ((-6, -6), (-20, 5)):
        louder = Gain(low, high)(batch)["features"].abs().amax(1) / batch["features"].abs().amax(1)
        decibels = 20 * louder.log10()
        drawn = low + (high - low) * uniform(batch["seeds"], "Gain", 1)[:, 0]
        torch.testing.assert_close(decibels.cpu().double(), drawn, atol=1e-4, rtol=0)
    assert len(set(decibels.tolist())) == len(LENGTHS)


@pytest.mark.parametrize("device", DEVICES)
def test_noise_has_the_ratio_that_was_drawn(waves_and_noise: Dataset, device: str) -> None:
    """Also where the example is longer than the noise, 9,600 samples."""
    batch = on(tones(), device)
    for low, high in ((10, 10), (-5, 30)):
        mixed = Noise(waves_and_noise["noise"], low, high)(batch)
        noise = (mixed["features"] - batch["features"]).double()
        ratio = 10 * (batch["features"].double().square().sum(1) / noise.square().sum(1)).log10()
        drawn = low + (high - low) * uniform(batch["seeds"], "Noise", 3)[:, 2]
        torch.testing.assert_close(ratio.cpu(), drawn, atol=0.1, rtol=0)


def test_noise_is_a_piece_of_a_noise_clip(waves_and_noise: Dataset, tmp_path: Path) -> None:
    split = waves_and_noise["noise"]
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
