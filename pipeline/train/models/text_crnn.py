"""The text form of the CNN-GRU: tokens, convolutions of several widths side by side, two GRUs."""

from collections.abc import Sequence

import torch
from torch import nn

from pipeline.errors import UsageError
from pipeline.train.models.pooling import turned


class TextCrnn(nn.Module):
    """Embedding, parallel Conv1d, a GRU in each direction, linear on the last state of both.

    A sequence alone and in a padded batch gives the same logits.

    Args:
        vocabulary, outputs: tokens are 0 to ``vocabulary`` - 1; the number of classes.
        embedding: numbers that a token becomes.
        channels: of each convolution.
        widths: of the convolutions, in tokens, odd.
        hidden: of the GRUs.
        dropout: share of activations that training silences before the GRUs and the linear layer.

    Raises:
        UsageError: an even width, which has no middle, or none at all.
    """

    def __init__(
        self,
        vocabulary: int,
        outputs: int,
        embedding: int = 32,
        channels: int = 32,
        widths: Sequence[int] = (1, 3, 5),
        hidden: int = 64,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if not widths or any(width < 1 or width % 2 == 0 for width in widths):
            raise UsageError(f"widths={tuple(widths)}: expected odd numbers, such as (1, 3, 5)")
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(embedding, channels, width, padding=width // 2) for width in widths
        )
        self.forwards = nn.GRU(channels * len(widths), hidden, batch_first=True)
        self.backwards = nn.GRU(channels * len(widths), hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden, outputs)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, T) int64, (B,) → (B, outputs) logits"""
        inside = torch.arange(tokens.shape[1], device=tokens.device) < lengths.unsqueeze(1)
        embedded = torch.where(inside.unsqueeze(2), self.embedding(tokens), 0.0).transpose(1, 2)
        maps = torch.cat([torch.relu(layer(embedded)) for layer in self.convolutions], 1)
        steps = self.dropout(maps.transpose(1, 2))
        last = (torch.arange(len(tokens), device=tokens.device), lengths - 1)
        there = self.forwards(steps)[0][last]
        back = self.backwards(turned(steps, lengths))[0][last]
        logits: torch.Tensor = self.head(self.dropout(torch.cat([there, back], 1)))
        return logits
