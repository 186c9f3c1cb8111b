"""A recurrent network that reads the frames, or an image's rows, one by one."""

import torch
from torch import nn

from pipeline.train.models.pooling import last_of
from pipeline.train.models.values import check_counts, check_share


class Lstm(nn.Module):
    """Layers of LSTM; what the last one holds after an example's last step tells the class.

    Args:
        bins, outputs: values of a step, and the number of classes.
        hidden: width of every layer.
        layers: how many.
        dropout: share of activations that training silences between layers.

    Raises:
        UsageError: an option that makes no model.
    """

    def __init__(
        self, bins: int, outputs: int, hidden: int = 64, layers: int = 3, dropout: float = 0.0
    ) -> None:
        super().__init__()
        check_counts(hidden=hidden, layers=layers)
        check_share(dropout=dropout)
        self.lstm = nn.LSTM(
            bins, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0
        )
        self.head = nn.Linear(hidden, outputs)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, T, F) and (B,) lengths → (B, outputs) logits."""
        steps, _ = self.lstm(features)  # (B, T, hidden)
        logits: torch.Tensor = self.head(last_of(steps, lengths))
        return logits
