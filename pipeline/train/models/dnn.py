"""A feed-forward acoustic model for CTC: frames are judged by themselves and their neighbours."""

from itertools import pairwise

import torch
from torch import nn
from torch.nn.functional import pad

from pipeline.train.models.frames import Frames, subsampled
from pipeline.train.models.values import check_counts, check_share


class DnnCtc(nn.Module):
    """Frames with ``context`` neighbours on each side, stacked; linear layers with ReLU; scores.

    A clip alone and in a padded batch gives the same scores.

    Args:
        bins, outputs: F, and the number of tokens, the blank among them.
        context: neighbours on each side; beyond the clip there are zeros.
        stride: every ``stride``-th frame is judged.
        hidden: width of the layers.
        layers: how many they are.
        dropout: share of activations that training silences, [0, 1).

    Raises:
        UsageError: an option that makes no model.
    """

    def __init__(
        self,
        bins: int,
        outputs: int,
        context: int = 10,
        stride: int = 3,
        hidden: int = 512,
        layers: int = 3,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        check_counts(least=0, context=context)
        check_counts(stride=stride, hidden=hidden, layers=layers)
        check_share(dropout=dropout)
        self.context, self.stride = context, stride
        widths = [bins * (2 * context + 1)] + [hidden] * layers
        stack: list[nn.Module] = []
        for before, after in pairwise(widths):
            stack += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU(), nn.Dropout(dropout)]
        self.layers = nn.Sequential(*stack, nn.Linear(widths[-1], outputs))

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> Frames:
        """(B, T, F) float32 with zeros behind each example, (B,) → (B, ⌈T / stride⌉, outputs)"""
        padded = pad(features, (0, 0, self.context, self.context))
        windows = padded.unfold(1, 2 * self.context + 1, self.stride).flatten(2)
        return Frames(self.layers(windows), subsampled(lengths, self.stride))
