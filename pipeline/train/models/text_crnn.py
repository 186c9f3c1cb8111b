"""The text form of the CNN-GRU: tokens, convolutions of several widths side by side, two GRUs."""

import torch
from torch import nn

from pipeline.train.models.pooling import last_of, present, turned
from pipeline.train.models.values import check_counts, check_share


class TextCrnn(nn.Module):
    """Embedding, parallel Conv1d, a GRU in each direction, linear on the last state of both.

    A sequence alone and in a padded batch gives the same logits.

    Args:
        vocabulary, outputs: tokens are 0 to ``vocabulary`` - 1; the number of classes.
        embedding: numbers that a token becomes.
        channels: of each convolution.
        branches: how many convolutions: 1, 3, 5 … tokens wide.
        hidden: of the GRUs.
        dropout: share of activations that training silences before the GRUs and the linear layer.

    Raises:
        UsageError: an option that makes no model.
    """

    def __init__(
        self,
        vocabulary: int,
        outputs: int,
        embedding: int = 32,
        channels: int = 32,
        branches: int = 3,
        hidden: int = 64,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_counts(embedding=embedding, channels=channels, branches=branches, hidden=hidden)
        check_share(dropout=dropout)
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(embedding, channels, 1 + 2 * reach, padding=reach)
            for reach in range(branches)
        )
        self.forwards = nn.GRU(channels * branches, hidden, batch_first=True)
        self.backwards = nn.GRU(channels * branches, hidden, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * hidden, outputs)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, T) int64, (B,) → (B, outputs) logits"""
        inside = present(lengths, tokens.shape[1]).unsqueeze(2)
        embedded = torch.where(inside, self.embedding(tokens), 0.0).transpose(1, 2)
        maps = torch.cat([torch.relu(layer(embedded)) for layer in self.convolutions], 1)
        steps = self.dropout(maps.transpose(1, 2))
        there = last_of(self.forwards(steps)[0], lengths)
        back = last_of(self.backwards(turned(steps, lengths))[0], lengths)
        logits: torch.Tensor = self.head(self.dropout(torch.cat([there, back], 1)))
        return logits
