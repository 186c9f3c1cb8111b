"""The models: each a function from sizes to a module, and one line in ``MODELS``."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn


class Conv2dClassifier(nn.Module):
    """Three 3×3 convolutions of 32, 64 and 128 channels, then a linear layer.

    Each convolution is followed by ReLU and a 2×2 maximum; the mean over what is left of the time
    axis makes room for clips of any length, while the feature axis is kept: the linear layer sees
    where in the spectrum a pattern was.

    Input (B, T, F) float32, T and F at least 8; output (B, classes) logits.
    """

    def __init__(self, n_features: int, n_classes: int) -> None:
        super().__init__()
        channels = (1, 32, 64, 128)
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(channels[-1] * (n_features // 8), n_classes)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, T, F) → (B, classes)"""
        maps = self.convolutions(features.unsqueeze(1))  # (B, 128, T // 8, F // 8)
        logits: torch.Tensor = self.head(maps.mean(dim=2).flatten(1))
        return logits


MODELS: dict[str, Callable[[int, int], nn.Module]] = {"conv2d": Conv2dClassifier}
