"""Three convolutions over time and bins, then a linear layer."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import pad

from pipeline.train.models.pooling import mean_over

CHANNELS = (1, 32, 64, 128)
HALVED = 8  # times that the three maxima make a map smaller


class Conv2d(nn.Module):
    """Three 3×3 convolutions of 32, 64 and 128 channels, then a linear layer.

    Each convolution is followed by ReLU and a 2×2 maximum; the mean over what is left of the time
    axis makes room for clips of any length, while the feature axis is kept: the linear layer sees
    where in the spectrum a pattern was.
    """

    def __init__(self, bins: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(CHANNELS):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(CHANNELS[-1] * (bins // HALVED), outputs)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, T, F), F at least 8, and (B,) lengths → (B, outputs) logits."""
        missing = -features.shape[1] % HALVED  # zeros, so that the last frames count, too
        maps = self.convolutions(pad(features, (0, 0, 0, missing)).unsqueeze(1))
        steps = maps.transpose(1, 2).flatten(2)  # (B, T / 8, 128 · F / 8)
        left = (lengths + HALVED - 1).div(HALVED, rounding_mode="floor")
        logits: torch.Tensor = self.head(mean_over(steps, left))
        return logits
