"""Convolutions and GRUs for CTC; the unidirectional form hears a stream, chunk by chunk."""

from collections.abc import Iterable
from typing import NamedTuple, cast

import torch
from torch import nn

from pipeline.errors import UsageError
from pipeline.train.models.frames import Frames, subsampled
from pipeline.train.models.streaming import NOTHING, Gru, LookBack, Waiting, convolved
from pipeline.train.models.values import check_counts, check_share

STRIDES = {1: (1, 1), 2: (2, 1), 4: (2, 2)}


class State(NamedTuple):
    """What a stream remembers: what the convolutions will see again, (1, B, hidden) of each GRU."""

    waiting: Waiting
    hidden: tuple[torch.Tensor, ...]


class CrnnCtc(nn.Module):
    """Two 3×3 convolutions that look back only, a linear layer, GRUs, linear.

    The convolutions halve the bins twice and keep every ``stride``-th frame together. A clip alone
    and in a padded batch gives the same scores.

    Args:
        bins, outputs: F, and the number of tokens, the blank among them.
        stride: 1, 2 or 4.
        channels: of the convolutions.
        hidden: of the GRUs, in each direction.
        layers: of GRUs.
        bidirectional: whether GRUs hear the clip from its end, too; True can't hear a stream.
        dropout: share of activations that training silences before each layer of GRUs and the last.

    Raises:
        UsageError: an option that makes no model.
    """

    def __init__(
        self,
        bins: int,
        outputs: int,
        stride: int = 2,
        channels: int = 16,
        hidden: int = 160,
        layers: int = 2,
        bidirectional: bool = True,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        check_counts(channels=channels, hidden=hidden, layers=layers)
        check_share(dropout=dropout)
        if stride not in STRIDES:
            raise UsageError(f"option stride={stride}: expected 1, 2 or 4")
        self.stride, self.hidden = stride, hidden
        first, second = STRIDES[stride]
        self.convolutions = nn.ModuleList(
            [_halving(1, channels, first), _halving(channels, channels, second)]
        )
        flat, both = channels * ((bins + 3) // 4), hidden * (1 + bidirectional)
        self.narrow = nn.Sequential(nn.Linear(flat, hidden), nn.LayerNorm(hidden), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        widths = [hidden] + [both] * (layers - 1)
        self.grus = nn.ModuleList(Gru(width, hidden, bidirectional) for width in widths)
        self.head = nn.Linear(both, outputs)
        self.streams = not bidirectional  # nothing that comes later changes what was heard

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> Frames:
        """(B, T, F) float32, (B,) → (B, ⌈T / stride⌉, outputs)"""
        flat, _ = convolved(self.convolutions, features)
        steps, left = self.narrow(flat), subsampled(lengths, self.stride)
        for gru in self.grus:
            steps = gru(self.dropout(steps), left)
        return Frames(self.head(self.dropout(steps)), left)

    def begin(self, features: torch.Tensor) -> State:
        """The state before the first of chunks like (B, T, F): silence."""
        hidden = features.new_zeros(1, len(features), self.hidden)
        return State(NOTHING, tuple(hidden for _ in self.grus))

    def hear(self, features: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """(B, t, F), the frames that follow → logits of the steps they complete, (B, t', outputs).

        Chunks of any sizes together give what ``forward`` gives for the whole.
        """
        flat, waiting = convolved(self.convolutions, features, state.waiting)
        steps, hidden = self.narrow(flat), []
        for gru, before in zip(cast(Iterable[Gru], self.grus), state.hidden, strict=True):
            steps, after = gru.hear(self.dropout(steps), before)
            hidden.append(after)
        return self.head(self.dropout(steps)), State(waiting, tuple(hidden))


def _halving(before: int, after: int, step: int) -> LookBack:
    """(B, before, T, F) → (B, after, ⌈T / step⌉, ⌈F / 2⌉), 0 at least."""
    convolution = nn.Conv2d(before, after, 3, (step, 2), padding=(0, 1))
    return LookBack(nn.Sequential(convolution, nn.ReLU()), width=3, step=step)
