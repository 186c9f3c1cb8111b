"""How a speech model bears noise, other speeds and speakers that it never heard."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate, pad

from pipeline.errors import ModelError
from pipeline.features import Waveform
from pipeline.loader import Dataset, Split
from pipeline.train.augment import coloured, mixed_at
from pipeline.train.checkpoint import Saved
from pipeline.train.device import own_draws
from pipeline.train.evaluation import evaluate
from pipeline.train.fitting import check_fits
from pipeline.train.models import entry
from pipeline.train.predict import hearing
from pipeline.train.recogniser import Recogniser
from pipeline.train.tasks import TASKS

SNRS = (20, 15, 10, 5, 0)  # dB, of pink noise
SPEEDS = (0.9, 0.95, 1.05, 1.1)
SPEAKER = "speaker"  # the label that tells who spoke
SEED = 0


@dataclass(frozen=True)
class Condition:
    """A score under a condition, on so many examples."""

    name: str
    score: float
    examples: int


class Changed(nn.Module):
    """A model that hears changed samples."""

    def __init__(
        self, recogniser: Recogniser, change: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        super().__init__()
        self.recogniser, self.change = recogniser, change

    def forward(self, samples: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, n) samples and lengths → the model's output."""
        output: torch.Tensor = self.recogniser(self.change(samples), lengths)
        return output


def with_noise(snr: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Pink noise, ``snr`` dB below each clip's power."""

    def change(samples: torch.Tensor) -> torch.Tensor:
        pink = coloured(torch.randn_like(samples), torch.full((len(samples), 1), 0.5))
        return mixed_at(samples, pink, snr)

    return change


def at_speed(speed: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """As a tape that runs faster: time and pitch together; (B, n) → (B, n)."""

    def change(samples: torch.Tensor) -> torch.Tensor:
        n = samples.shape[1]
        played = interpolate(
            samples.unsqueeze(1), round(n / speed), mode="linear", align_corners=True
        ).squeeze(1)
        return pad(played, (0, max(n - played.shape[1], 0)))[:, :n]

    return change


def robustness(saved: Saved, data: Dataset, split: str) -> Iterator[Condition]:
    """The score that tells the best model, on a dataset of waveforms, condition by condition.

    Raises:
        ModelError: the model or the dataset is not one of clips of samples.
    """
    if not isinstance(data.sealed.feature, Waveform):
        raise ModelError(
            f"{data.sealed.folder}: robustness is heard on samples, this dataset holds "
            f"{data.sealed.feature.kind}; prepare one with --features waveform"
        )
    own, recogniser = saved.description, hearing(saved)
    check_fits(own, data)
    task = TASKS[entry(own.model).task]

    def score(name: str, model: nn.Module, part: Split) -> Condition:
        cpu = torch.device("cpu")
        with own_draws(cpu):
            torch.manual_seed(SEED)
            found = evaluate(model, task, part, own.target, own.names, cpu)
        return Condition(name, found.scores[task.watch], len(part))

    whole = data[split]
    yield score("as recorded", recogniser, whole)
    unseen = _unseen(data, split)
    if unseen is not None:
        yield score("speakers that train lacks", recogniser, unseen)
    for snr in SNRS:
        yield score(f"noise at {snr} dB", Changed(recogniser, with_noise(snr)), whole)
    for speed in SPEEDS:
        yield score(f"speed {speed}", Changed(recogniser, at_speed(speed)), whole)


def _unseen(data: Dataset, split: str) -> Split | None:
    """The clips whose speakers train lacks; None where nobody tells them."""
    if SPEAKER not in data.sealed.columns.labels or "train" not in data:
        return None
    heard = set(data["train"].column(SPEAKER).tolist())
    mask = [speaker not in heard for speaker in data[split].column(SPEAKER).tolist()]
    return data[split].select(np.flatnonzero(mask)) if any(mask) else None
