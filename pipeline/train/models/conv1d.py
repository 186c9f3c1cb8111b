"""Convolutions along time alone: every bin is a channel."""

import torch
from torch import nn

from pipeline.errors import UsageError
from pipeline.train.models.pooling import mean_over
from pipeline.train.models.values import check_counts, check_share


def output_length(lengths: torch.Tensor, kernel: int, stride: int, padding: int) -> torch.Tensor:
    """(B,) lengths → those after a convolution: (N - k + 2p) / s + 1, rounded down."""
    return (lengths - kernel + 2 * padding).div(stride, rounding_mode="floor") + 1


class Conv1d(nn.Module):
    """Convolutions over the frames, each halving their number, then the mean over what is left.

    Args:
        bins, outputs: F, and the number of classes.
        channels: of every convolution.
        layers: of convolution, batch normalisation and ReLU.
        kernel: odd; the frames that a convolution sees.
        dropout: share of the last channels that training silences.

    Raises:
        UsageError: an option that makes no model.
    """

    def __init__(
        self,
        bins: int,
        outputs: int,
        channels: int = 96,
        layers: int = 3,
        kernel: int = 5,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_counts(channels=channels, layers=layers, kernel=kernel)
        check_share(dropout=dropout)
        if kernel % 2 == 0:
            raise UsageError(f"option kernel={kernel}: expected an odd number")
        self.kernel, self.stride, self.padding = kernel, 2, kernel // 2
        widths = [bins, *[channels] * layers]
        self.convolutions = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(before, channels, kernel, self.stride, self.padding, bias=False),
                nn.BatchNorm1d(channels),
                nn.ReLU(),
            )
            for before in widths[:-1]
        )
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(channels, outputs)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, T, F) and (B,) lengths → (B, outputs) logits."""
        steps = features.transpose(1, 2)  # (B, channels, T)
        for convolution in self.convolutions:
            steps = convolution(steps)
            lengths = output_length(lengths, self.kernel, self.stride, self.padding)
        pooled = mean_over(steps.transpose(1, 2), lengths)
        logits: torch.Tensor = self.head(self.dropout(pooled))
        return logits
