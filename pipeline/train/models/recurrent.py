"""A recurrent network that reads tokens and names a class when it has read the last one."""

import torch
from torch import nn

from pipeline.errors import unknown_name
from pipeline.train.models.cells import CELLS
from pipeline.train.models.pooling import last_of
from pipeline.train.models.values import check_counts


class SequenceClassifier(nn.Module):
    """Embedding, one recurrent layer, a linear layer on its state after the last token.

    Args:
        vocabulary, outputs: tokens are 0 to ``vocabulary`` - 1; the number of classes.
        cell: a name in ``CELLS``.
        embedding: numbers that a token becomes.
        hidden: of the recurrent layer.

    Raises:
        UnknownNameError: there is no such cell.
        UsageError: an option that makes no model.
    """

    def __init__(
        self,
        vocabulary: int,
        outputs: int,
        cell: str = "srn",
        embedding: int = 32,
        hidden: int = 32,
    ) -> None:
        super().__init__()
        check_counts(embedding=embedding, hidden=hidden)
        if cell not in CELLS:
            raise unknown_name("cell", cell, CELLS)
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.recurrent = CELLS[cell](embedding, hidden)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, tokens: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, T) int64, (B,) → (B, outputs) logits"""
        states, _ = self.recurrent(self.embedding(tokens))
        logits: torch.Tensor = self.head(last_of(states, lengths))
        return logits
