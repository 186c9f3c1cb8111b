"""What models for CTC return: a score of every token at every frame that is left."""

from typing import NamedTuple

import torch


class Frames(NamedTuple):
    """Scores of tokens along time.

    Attributes:
        logits: (B, T', tokens) float32, unnormalised; token 0 is CTC's blank.
        lengths: (B,) int64, the frames of each example; what is behind them means nothing.
    """

    logits: torch.Tensor
    lengths: torch.Tensor


def subsampled(lengths: torch.Tensor, stride: int) -> torch.Tensor:
    """Frames that are left of (B,) lengths where every ``stride``-th is kept, from the first on."""
    return (lengths - 1).div(stride, rounding_mode="floor") + 1
