"""``Speed`` and ``Pitch``: other speakers of the same words.

Factors are whole percents, so that resampling filters stay small and examples that drew the same
one are computed together.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import pad

from pipeline.importing import torchaudio
from pipeline.loader.augment.parts import check, drawn, features_of, present, whole
from pipeline.loader.split import Batch

SLOWEST, FASTEST = 0.5, 2.0
N_FFT, HOP = 512, 128  # as torchaudio.functional.pitch_shift
ROOM = 4 * N_FFT  # silence behind every clip, so that its end doesn't depend on what is padded


@dataclass(frozen=True)
class Speed:
    """Waveforms played ``low`` to ``high`` times as fast: tempo and pitch change, and the length.

    Ko et al., Audio augmentation for speech recognition, 2015; by
    ``torchaudio.functional.resample`` in steps of 1 %. A clip of n samples gets ⌈n / factor⌉.
    """

    low: float = 0.9
    high: float = 1.1

    def __post_init__(self) -> None:
        ordered = SLOWEST <= self.low <= self.high <= FASTEST
        check("Speed: low to high", (self.low, self.high), ordered, f"{SLOWEST} to {FASTEST}")

    def __call__(self, batch: Batch) -> Batch:
        """The batch with other ``features`` and ``lengths``."""
        features_of(batch, "Speed", 2, "before")
        lengths = batch["lengths"]
        low, high = round(100 * self.low), round(100 * self.high)
        steps = torch.full_like(lengths, high - low + 1)
        percents = low + whole(drawn(batch, "Speed", 1)[:, 0], steps)
        return _changed(batch, percents, _faster, (lengths * 100 + percents - 1) // percents)


@dataclass(frozen=True)
class Pitch:
    """Waveforms up to ``semitones`` higher or lower, as long as before, in steps of 1 % (17 cents).

    Stretched in time by a phase vocoder and played faster by as much, as
    ``torchaudio.functional.pitch_shift`` does, by the same functions.
    """

    semitones: float = 2.0

    def __post_init__(self) -> None:
        check("Pitch: semitones", self.semitones, 0 <= self.semitones <= 12, "0 to 12")

    def __call__(self, batch: Batch) -> Batch:
        """The batch with other ``features``."""
        features_of(batch, "Pitch", 2, "before")
        turn = 2 * drawn(batch, "Pitch", 1)[:, 0] - 1
        percents = (100 * 2 ** (turn * self.semitones / 12)).round().long()
        return _changed(batch, percents, _higher, batch["lengths"])


def _changed(
    batch: Batch,
    percents: torch.Tensor,
    change: Callable[[torch.Tensor, int], torch.Tensor],
    lengths: torch.Tensor,
) -> Batch:
    """Examples of the same percentage changed together; 100 changes nothing.

    Behind the new ``lengths``, where filters have rung, are zeros.
    """
    samples = batch["features"]
    changed = samples.new_zeros((len(samples), int(lengths.max())))
    for percent in set(percents.tolist()):
        rows = (percents == percent).nonzero()[:, 0]
        values = samples[rows] if percent == 100 else change(samples[rows], percent)
        values = values[:, : changed.shape[1]]
        changed[rows, : values.shape[1]] = values
    batch = batch | {"features": changed, "lengths": lengths}
    return batch | {"features": changed.masked_fill(~present(batch), 0)}


def _faster(samples: torch.Tensor, percent: int) -> torch.Tensor:
    resampled: torch.Tensor = torchaudio().functional.resample(samples, percent, 100)
    return resampled


def _higher(samples: torch.Tensor, percent: int) -> torch.Tensor:
    window = torch.hann_window(N_FFT, device=samples.device)
    spectra = torch.stft(
        pad(samples, (0, ROOM)), N_FFT, HOP, window=window, pad_mode="constant", return_complex=True
    )
    advance = torch.linspace(0, math.pi * HOP, spectra.shape[1], device=samples.device)[:, None]
    stretched = torchaudio().functional.phase_vocoder(spectra, 100 / percent, advance)
    return _faster(torch.istft(stretched, N_FFT, HOP, window=window), percent)
