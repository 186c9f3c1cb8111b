"""Convolutions and a GRU; the unidirectional form hears a stream, chunk by chunk."""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import pad

from pipeline.train.models.pooling import mean_over
from pipeline.train.models.streaming import NOTHING, Gru, LookBack, Waiting, convolved
from pipeline.train.models.values import check_counts, check_share

STEP = 4  # frames that become one step of the GRU


class State(NamedTuple):
    """What a stream remembers.

    Attributes:
        waiting: what the convolutions will see again.
        hidden: (1, B, hidden) of the GRU.
        total: (B, hidden), the sum of what it gave.
        steps: how many that were.
    """

    waiting: Waiting
    hidden: torch.Tensor
    total: torch.Tensor
    steps: int


class Crnn(nn.Module):
    """Two 3×3 convolutions that look back only, each with a 2×2 maximum; a GRU; the mean; linear.

    Args:
        bins, outputs: F, and the number of classes.
        hidden: of the GRU, in each direction.
        bidirectional: whether a second GRU hears the clip from its end; True can't hear a stream.
        dropout: share of activations that training silences before the GRU and the linear layer.

    Raises:
        UsageError: an option that makes no model.
    """

    def __init__(
        self,
        bins: int,
        outputs: int,
        hidden: int = 96,
        bidirectional: bool = True,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        check_counts(hidden=hidden)
        check_share(dropout=dropout)
        self.convolutions = nn.ModuleList([_halving(1, 32), _halving(32, 64)])
        self.gru = Gru(64 * (bins // 4), hidden, bidirectional)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden * (1 + bidirectional), outputs)
        self.streams = not bidirectional  # nothing that comes later changes what was heard

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, T, F), F at least 4, and (B,) lengths → (B, outputs) logits."""
        whole = pad(features, (0, 0, 0, max(STEP - features.shape[1], 0)))
        steps, _ = convolved(self.convolutions, whole)
        left = lengths.div(STEP, rounding_mode="floor").clamp(min=1)
        heard = mean_over(self.gru(self.dropout(steps), left), left)  # of (B, T / 4, hidden)
        logits: torch.Tensor = self.head(self.dropout(heard))
        return logits

    def begin(self, features: torch.Tensor) -> State:
        """The state before the first of chunks like (B, T, F): silence."""
        hidden = features.new_zeros(1, len(features), self.gru.there.hidden_size)
        return State(NOTHING, hidden, hidden[0], 0)

    def hear(self, features: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """(B, t, F), the frames that follow → (B, outputs) logits of all heard so far."""
        steps, waiting = convolved(self.convolutions, features, state.waiting)
        given, hidden = self.gru.hear(steps, state.hidden)
        total, count = state.total + given.sum(dim=1), state.steps + given.shape[1]
        after = State(waiting, hidden, total, count)
        if not count:  # silence fills the first step up, as it does for a clip that short
            silence = features.new_zeros(len(features), STEP, features.shape[2])
            filled, _ = convolved(self.convolutions, silence, waiting)
            total = self.gru.hear(filled[:, :1], hidden)[0].sum(dim=1)
        return self.head(total / max(count, 1)), after


def _halving(before: int, after: int) -> LookBack:
    """(B, before, T, F) → (B, after, T // 2, F // 2): the greatest of every 2×2, 0 at least."""
    convolution = nn.Conv2d(before, after, 3, padding=(0, 1))
    layer = nn.Sequential(convolution, nn.BatchNorm2d(after), nn.MaxPool2d(2), nn.ReLU())
    return LookBack(layer, width=4, step=2)
