"""How a speech model bears noise, other speeds and speakers that it never heard."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn.functional import pad

from pipeline.errors import ModelError
from pipeline.features import Waveform
from pipeline.loader import Dataset, Split
from pipeline.loader.augment import Speed, uniform
from pipeline.loader.split import Batch
from pipeline.train.augmenting import Step
from pipeline.train.checkpoint import Saved
from pipeline.train.device import device_of
from pipeline.train.evaluation import evaluate
from pipeline.train.fitting import check_classes
from pipeline.train.predict import reading, task_of

SNRS = (20, 15, 10, 5, 0)  # dB
SPEEDS = (0.9, 0.95, 1.05, 1.1)
SPEAKER = "speaker"  # the label that tells who spoke
LOWEST = 1 / 500  # of the sample rate: pink noise is flat below, 32 Hz at 16 kHz


@dataclass(frozen=True)
class Condition:
    """A score under a condition, on so many examples."""

    name: str
    score: float
    examples: int


@dataclass(frozen=True)
class PinkNoise:
    """Noise whose power falls as 1/f, ``snr`` dB below each clip's: no model trained on it."""

    snr: float

    def __call__(self, batch: Batch) -> Batch:
        """The batch with other ``features``, (B, n) samples."""
        samples = batch["features"]
        n = samples.shape[1]
        # Two uniform numbers make a normal one (Box & Muller, 1958).
        radius, turn = uniform(batch["seeds"], "PinkNoise", 2 * n).chunk(2, dim=1)
        white = (-2 * (1 - radius).log()).sqrt() * (2 * torch.pi * turn).cos()
        places = torch.arange(n // 2 + 1).clamp(min=int(LOWEST * n) + 1)
        pink = torch.fft.irfft(torch.fft.rfft(white) * places**-0.5, n)
        power, own = (x.square().mean(dim=1, keepdim=True) for x in (samples, pink))
        scale = (power / own * 10 ** (-self.snr / 10)).sqrt()
        return batch | {"features": (samples + pink * scale).to(samples)}


def as_long_as(n: int) -> Step:
    """Clips cut or padded to n samples, as a model expects them."""

    def cut(batch: Batch) -> Batch:
        samples = batch["features"][:, :n]
        samples = pad(samples, (0, n - samples.shape[1]))
        return batch | {"features": samples, "lengths": torch.full_like(batch["lengths"], n)}

    return cut


def robustness(
    saved: Saved, data: Dataset, split: str, device: str = "auto"
) -> Iterator[Condition]:
    """The score that tells the best model, on a dataset of waveforms, condition by condition.

    Noise and speed are made on the CPU: they are the same whatever ``device`` the model is on.

    Raises:
        UsageError: there is no such device here, or a clip without a class.
        ModelError: the model or the dataset is not one of clips of samples, of one length.
    """
    n = data.sealed.columns.shape[0]
    if not isinstance(data.sealed.feature, Waveform) or n is None:
        raise ModelError(
            f"{data.sealed.folder}: robustness is heard on samples of one length, this dataset "
            f"holds {data.sealed.feature.kind}; prepare one with --features waveform"
        )
    own, task, where = saved.description, task_of(saved), device_of(device)
    check_classes(data, split, own.target)
    recogniser = reading(saved, data).to(where)

    def score(name: str, part: Split, *changes: Step) -> Condition:
        found = evaluate(recogniser, task, part, own.target, own.names, where, changes=changes)
        return Condition(name, found.scores[task.watch], len(part))

    whole = data[split]
    yield score("as recorded", whole)
    unseen = _unseen(data, split)
    if unseen is not None:
        yield score("speakers that train lacks", unseen)
    for snr in SNRS:
        yield score(f"noise at {snr} dB", whole, PinkNoise(snr))
    for speed in SPEEDS:
        yield score(f"speed {speed}", whole, Speed(speed, speed), as_long_as(n))


def _unseen(data: Dataset, split: str) -> Split | None:
    """The clips whose speakers train lacks; None where nobody tells them."""
    if SPEAKER not in data.sealed.columns.labels or "train" not in data:
        return None
    heard = set(data["train"].column(SPEAKER).tolist())
    mask = [speaker not in heard for speaker in data[split].column(SPEAKER).tolist()]
    return data[split].select(np.flatnonzero(mask)) if any(mask) else None
