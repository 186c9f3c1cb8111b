"""What is done to every batch: features computed on the fly, augmentation, anything else.

A transform is a list of steps: a feature's definition, or a callable ``batch -> batch``. Without a
device they run where the batch is gathered, with one on it, after delivery. With either, an
example's draws are a function of the loader's seed, the epoch and its index: see ``draws``.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeGuard

import numpy as np
import torch
from threadpoolctl import ThreadpoolController

from pipeline.errors import ClipError, FeatureError, UsageError, example_name
from pipeline.features import KINDS, Feature, LogMel, Mfcc, Spectrogram, Waveform
from pipeline.features.module import FeatureModule
from pipeline.loader.draws import seeds_of
from pipeline.loader.permutation import Numbers
from pipeline.loader.split import Batch, Split
from pipeline.loader.stream_turns import Wanted
from pipeline.loader.turns import Place

Callables = tuple[Callable[[Batch], Batch], ...]
Transform = Feature | Callable[[Batch], Batch] | Sequence[Feature | Callable[[Batch], Batch]]
Spectral = Spectrogram | LogMel | Mfcc


@dataclass(frozen=True)
class Bare:
    """Batches as they are gathered."""

    batch: Callable[[Any], Batch]

    def __call__(self, epoch: int, wanted: Any) -> Batch:
        """A batch, whatever the epoch."""
        return self.batch(wanted)


@dataclass(frozen=True)
class Gathered:
    """Batches with ``seeds``, taken through what is done where they are gathered."""

    batch: Callable[[Any], Batch]
    seed: int
    steps: Callables

    def __call__(self, epoch: int, wanted: Numbers | Wanted) -> Batch:
        """A batch of an epoch: indices, or what a stream says of it."""
        batch = self.batch(wanted)
        if "seeds" in batch:  # of a dataset that was prepared before recipes refused the name
            raise UsageError(
                "label seeds: a batch's seeds to draw from have that name; open without it: "
                "labels=[...], or make the loader without a transform"
            )
        indices = wanted.rows if isinstance(wanted, Wanted) else wanted
        batch["seeds"] = seeds_of(self.seed, epoch, indices)
        for step in self.steps:
            batch = step(batch)
        return batch


@dataclass(frozen=True)
class Delivered:
    """Batches moved to a device, but for their seeds, and taken through what is done there."""

    device: torch.device
    steps: Callables

    def __call__(self, pair: tuple[Batch, Place]) -> tuple[Batch, Place]:
        """A batch and the place after it."""
        batch, place = pair
        batch = {name: self._moved(name, values) for name, values in batch.items()}
        for step in self.steps:
            batch = step(batch)
        return batch, place

    def _moved(self, name: str, values: object) -> object:
        # Draws are made on the CPU: fetching the seeds back would wait for the device each time.
        if name == "seeds" or not isinstance(values, torch.Tensor):
            return values
        return values.to(self.device, non_blocking=True)


@dataclass(frozen=True)
class Computed:
    """Waveforms → a feature, by its own ``apply`` or by its module: what a prepared one gives.

    ``split`` is the name of theirs, for errors.
    """

    split: str
    feature: Spectral
    compute: Callable[[torch.Tensor], torch.Tensor]

    def __call__(self, batch: Batch) -> Batch:
        """Clips of one length together, from their samples alone; ``lengths`` become frames."""
        samples, lengths = batch["features"], batch["lengths"]
        groups = lengths.unique().tolist()
        if groups[0] < self.feature.analysis.shortest:
            raise self._too_short(lengths, batch.get("key", ()))
        frames = [self.feature.analysis.frames(n) for n in groups]
        if len(groups) == 1:
            values = self.compute(samples[:, : groups[0]])
            return batch | {"features": values, "lengths": torch.full_like(lengths, frames[0])}
        values = samples.new_zeros((len(samples), max(frames), self.feature.bins))
        counts = torch.empty_like(lengths)
        for n, count in zip(groups, frames, strict=True):
            rows = (lengths == n).nonzero()[:, 0]
            values[rows, :count] = self.compute(samples[rows, :n])
            counts[rows] = count
        return batch | {"features": values, "lengths": counts}

    def _too_short(self, lengths: torch.Tensor, keys: Sequence[str]) -> ClipError:
        """The error of the shortest clip of a batch, which lacks samples for one frame."""
        least, i = self.feature.analysis.shortest, int(lengths.argmin())
        return ClipError(
            f"{self.split}: {example_name(keys, i)} is too short for {self.feature.kind}: "
            f"expected {least} samples or more, got {int(lengths[i])}; "
            f'leave such clips out: split.filter("lengths", lambda n: n >= {least})'
        )


@dataclass(frozen=True)
class Applied:
    """``apply`` of a feature on tensors of the CPU; float32 as the loader serves it."""

    feature: Spectral

    def __call__(self, samples: torch.Tensor) -> torch.Tensor:
        """(batch, n) → (batch, frames, bins)"""
        with _libraries().limit(limits=1):  # as it was prepared: more would round otherwise
            values = self.feature.apply(np.ascontiguousarray(samples.numpy()))
        return torch.from_numpy(values).float()


@cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def arranged(
    batch: Callable[[Any], Batch],
    transform: Transform | None,
    split: Split,
    seed: int,
    device: str | torch.device | None,
) -> tuple[Bare | Gathered, Delivered | None]:
    """What makes batches where they are gathered by ``batch``, and what is done after delivery.

    Raises:
        UsageError: a step that is none, a device without a transform, a feature that can't be
            computed from this split.
    """
    if transform is None:
        if device is not None:
            raise UsageError(f"device={str(device)!r}: expected a transform to run there")
        return Bare(batch), None
    given = list(transform) if isinstance(transform, Sequence) else [transform]
    kinds = [step for step in given if _is_feature(step)]
    if len(kinds) > 1:
        names = ", ".join(kind.kind for kind in kinds)
        raise UsageError(f"transform: expected one feature at most, got {names}")
    place = None if device is None else torch.device(device)
    steps = tuple(_step(step, split, place) for step in given)
    if place is None:
        return Gathered(batch, seed, steps), None
    return Gathered(batch, seed, ()), Delivered(place, steps)


def _step(
    step: Feature | Callable[[Batch], Batch], split: Split, device: torch.device | None
) -> Callable[[Batch], Batch]:
    if isinstance(step, Spectral):
        _check(step, split)
        compute = Applied(step) if device is None else FeatureModule(step).to(device)
        return Computed(split.name, step, compute)
    if _is_feature(step):
        raise FeatureError(f"transform: {step.kind} are not computed from samples")
    if not callable(step):
        raise UsageError(f"transform: expected a feature or a callable, got {step!r}")
    return step


def _is_feature(step: object) -> TypeGuard[Feature]:
    return isinstance(step, tuple(KINDS.values()))


def _check(feature: Spectral, split: Split) -> None:
    """Raise UsageError unless the feature can be computed from a split's samples."""
    stored, where = split.sealed.feature, f"{split.sealed.folder}, transform {feature.kind}"
    if not isinstance(stored, Waveform):
        raise UsageError(
            f"{where}: expected a dataset of waveforms, got {stored.kind}; "
            "prepare one with --features waveform"
        )
    if stored.sample_rate != feature.sample_rate:
        raise UsageError(
            f"{where}: for {feature.sample_rate} Hz, but the audio is {stored.sample_rate} Hz"
        )
    if split.normalized:
        raise UsageError(
            f"{where}: expected samples as recorded, got normalize=True, which is by the mean of "
            "the waveforms; open with normalize=False, and give the feature a normalize of its own"
        )
    feature.shape(split.sealed.columns.shape[0])
