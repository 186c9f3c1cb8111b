"""``Gain``, ``TimeShift`` and ``Noise``: other levels, other places, other rooms."""

import math
from dataclasses import dataclass

import torch

from pipeline.errors import UsageError
from pipeline.features import Waveform
from pipeline.importing import torchaudio
from pipeline.loader.augment.parts import check, drawn, features_of, present
from pipeline.loader.draws import uniform
from pipeline.loader.split import Batch, Split


@dataclass(frozen=True)
class Gain:
    """Waveforms louder or quieter by ``low`` to ``high`` dB. Nothing is clipped."""

    low: float = -10.0
    high: float = 0.0

    def __post_init__(self) -> None:
        ordered = -math.inf < self.low <= self.high < math.inf
        check("Gain: high", self.high, ordered, f"low={self.low} or more, in dB")

    def __call__(self, batch: Batch) -> Batch:
        """The batch with other ``features``."""
        samples = features_of(batch, "Gain", 2, "before")
        decibels = self.low + (self.high - self.low) * drawn(batch, "Gain", 1)
        return batch | {"features": samples * 10 ** (decibels / 20)}


@dataclass(frozen=True)
class TimeShift:
    """Examples moved in time by up to ``share`` of their length, either way; zeros come in.

    For waveforms and features. What leaves at one end is lost, the length stays.
    """

    share: float = 0.1

    def __post_init__(self) -> None:
        check("TimeShift: share", self.share, 0 <= self.share <= 1, "0 to 1")

    def __call__(self, batch: Batch) -> Batch:
        """The batch with other ``features``."""
        features, lengths = batch["features"], batch["lengths"][:, None]
        turn = 2 * drawn(batch, "TimeShift", 1) - 1
        shifts = (turn * self.share * lengths).round().long()
        most = features.shape[1]
        source = torch.arange(most, device=features.device) - shifts
        outside = (source < 0) | (source >= lengths) | ~present(batch)
        bins = [1] * (features.ndim - 2)
        source = source.clamp(0, most - 1).reshape(*source.shape, *bins).expand_as(features)
        moved = features.gather(1, source)
        return batch | {"features": moved.masked_fill(outside.reshape(*outside.shape, *bins), 0)}


@dataclass(frozen=True)
class Noise:
    """Random pieces of noise, mixed into waveforms at ``low`` to ``high`` dB of signal over noise.

    Both powers are means over the example's own samples (``torchaudio.functional.add_noise``). A
    noise clip that is shorter than the example is repeated; silent examples and silent noise
    change nothing.

    Attributes:
        split: of waveforms at the same rate, as ``open_dataset(…)["noise"]``.
    """

    split: Split
    low: float = 0.0
    high: float = 20.0

    def __post_init__(self) -> None:
        kind, ordered = self.split.sealed.feature, -math.inf < self.low <= self.high < math.inf
        check("Noise: high", self.high, ordered, f"low={self.low} or more, in dB")
        if not isinstance(kind, Waveform) or not len(self.split):
            raise UsageError(f"Noise: expected waveforms, got {len(self.split)} of {kind.kind}")

    def __call__(self, batch: Batch) -> Batch:
        """The batch with other ``features``."""
        samples = features_of(batch, "Noise", 2, "before")
        which, where, ratio = uniform(batch["seeds"], "Noise", 3).unbind(1)
        noise = self._pieces(which, where, batch["lengths"].cpu(), samples.shape[1])
        noise = noise.to(samples.device) * present(batch)
        ratios = (self.low + (self.high - self.low) * ratio).to(samples)
        mixed = torchaudio().functional.add_noise(samples, noise, ratios)
        silent = (noise == 0).all(1, keepdim=True)
        return batch | {"features": torch.where(silent, samples, mixed)}

    def _pieces(
        self, which: torch.Tensor, where: torch.Tensor, lengths: torch.Tensor, most: int
    ) -> torch.Tensor:
        """A piece of noise for each example, (B, most); only its first ``lengths`` count."""
        found = self.split.batch((which * len(self.split)).long().numpy())
        noise: torch.Tensor = found["features"]
        there: torch.Tensor = found["lengths"]
        starts = (where * torch.where(there >= lengths, there - lengths + 1, there)).long()
        places = (starts[:, None] + torch.arange(most)) % there[:, None]
        return noise.gather(1, places)
