"""``Recogniser``: what a dataset serves, or samples, → normalised features → a model's output."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from pipeline.features.module import FeatureModule
from pipeline.train.models.pooling import present


class Recogniser(nn.Module):
    """A model with all that lies before it, so that training, prediction and export share it.

    Args:
        model: maps features (B, T, F) and lengths (B,) to what its task takes.
        mean, factor: (F,): features are normalised as (x - mean) · factor; None for tokens.
        front: computes features from samples; None where the dataset holds features.
    """

    mean: torch.Tensor
    factor: torch.Tensor

    def __init__(
        self,
        model: nn.Module,
        mean: torch.Tensor | None,
        factor: torch.Tensor | None,
        front: FeatureModule | None = None,
    ) -> None:
        super().__init__()
        self.model, self.front = model, front
        self.normalizes = mean is not None
        if mean is not None and factor is not None:
            self.register_buffer("mean", mean)
            self.register_buffer("factor", factor)

    def forward(self, given: torch.Tensor, lengths: torch.Tensor) -> Any:
        """(B, T, F) features, (B, T) tokens or (B, n) samples, and lengths → the model's output."""
        return self.model(*self.prepared(given, lengths))

    def prepared(
        self, given: torch.Tensor, lengths: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model sees, and its lengths in frames; zeros behind each example."""
        if self.front is not None:
            given, lengths = own_features(self.front, given, lengths)
        if self.normalizes:
            inside = present(lengths, given.shape[1]).unsqueeze(2)
            given = torch.where(inside, self.normalized(given), 0.0)
        return given, lengths

    def normalized(self, features: torch.Tensor) -> torch.Tensor:
        """(B, T, F) → the same, of mean 0 and variance 1 over train."""
        return (features - self.mean) * self.factor


def own_features(
    front: FeatureModule, samples: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, n) samples and (B,) lengths → (B, T, F), zeros behind each clip, and (B,) frames.

    Each clip's features are those that it has alone: its own end is mirrored, its own peak counts.
    An exportable front end takes clips without padding only: a graph knows no other way.

    Raises:
        ClipError: a clip has too few samples for one frame.
    """
    if front.exportable or bool((lengths == samples.shape[1]).all()):
        features = front(samples)
        return features, torch.full_like(lengths, features.shape[1])
    alone = [front(clip[None, :n])[0] for clip, n in zip(samples, lengths.tolist(), strict=True)]
    frames = lengths.new_tensor([len(one) for one in alone])
    return pad_sequence(alone, batch_first=True), frames
