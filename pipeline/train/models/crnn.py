"""Convolutions and a GRU; the unidirectional form hears a stream, chunk by chunk."""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import pad

from pipeline.train.models.pooling import mean_over, turned

REACH = 2  # steps that a convolution looks back
CHANNELS = (1, 32, 64)


class State(NamedTuple):
    """What a stream remembers.

    Attributes:
        waiting: the last inputs of each convolution, (B, channels, at least REACH, bins).
        hidden: (1, B, hidden) of the GRU.
        total: (B, hidden), the sum of what it gave.
        steps: how many that were.
    """

    waiting: tuple[torch.Tensor, ...]
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
        self.convolutions = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=(0, 1)), nn.BatchNorm2d(after))
            for before, after in pairwise(CHANNELS)
        )
        width = CHANNELS[-1] * (bins // 2 ** len(self.convolutions))
        self.forwards = nn.GRU(width, hidden, batch_first=True)
        self.backwards = nn.GRU(width, hidden, batch_first=True) if bidirectional else None
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden * (1 + bidirectional), outputs)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, T, F), F at least 4, and (B,) lengths → (B, outputs) logits."""
        missing = max(4 - features.shape[1], 0)
        maps = pad(features, (0, 0, 0, missing)).unsqueeze(1)
        for layer in self.convolutions:
            maps = _halved(layer(pad(maps, (0, 0, REACH, 0))))
        steps = self.dropout(maps.transpose(1, 2).flatten(2))  # (B, T / 4, 64 · F / 4)
        left = lengths.div(4, rounding_mode="floor").clamp(min=1)
        heard = mean_over(self.forwards(steps)[0], left)
        if self.backwards is not None:
            back = self.backwards(turned(steps, left))[0]
            heard = torch.cat([heard, mean_over(back, left)], dim=1)
        logits: torch.Tensor = self.head(self.dropout(heard))
        return logits

    @property
    def streams(self) -> bool:
        """Whether ``hear`` works: nothing that comes later changes what was heard."""
        return self.backwards is None

    def begin(self, features: torch.Tensor) -> State:
        """The state before the first of chunks like (B, T, F): silence, as ``forward`` pads."""
        batch, bins = features.shape[0], features.shape[2]
        waiting = tuple(
            features.new_zeros(batch, channels, REACH, bins // 2**i)
            for i, channels in enumerate(CHANNELS[:-1])
        )
        hidden = features.new_zeros(1, batch, self.forwards.hidden_size)
        return State(waiting, hidden, hidden[0], 0)

    def hear(self, features: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """(B, t, F), the frames that follow → (B, outputs) logits of all heard so far."""
        maps, waiting = features.unsqueeze(1), []
        for layer, before in zip(self.convolutions, state.waiting, strict=True):
            maps = torch.cat([before, maps], dim=2)
            pairs = (maps.shape[2] - REACH) // 2  # what is left of a pair waits for the next chunk
            waiting.append(maps[:, :, 2 * pairs :])
            whole = maps[:, :, : 2 * pairs + REACH]
            if not pairs:  # no layer takes nothing: one pair of silence, dropped
                whole = maps.new_zeros(*maps.shape[:2], REACH + 2, maps.shape[3])
            maps = _halved(layer(whole))[:, :, :pairs]
        hidden, total, count = state.hidden, state.total, maps.shape[2]
        if count:
            given, hidden = self.forwards(maps.transpose(1, 2).flatten(2), hidden)
            total = total + given.sum(dim=1)
        steps = state.steps + count
        return self.head(total / max(steps, 1)), State(tuple(waiting), hidden, total, steps)


def _halved(maps: torch.Tensor) -> torch.Tensor:
    """(B, C, T, F) → (B, C, T // 2, F // 2): the greatest of every 2×2, 0 at least."""
    return nn.functional.max_pool2d(maps, 2).relu()
