"""Convolutions and GRUs for CTC; the unidirectional form hears a stream, chunk by chunk."""

from typing import NamedTuple

import torch
from torch import nn

from pipeline.errors import UsageError
from pipeline.train.models.frames import Frames, subsampled
from pipeline.train.models.pooling import turned

WIDTH, REACH = 3, 2  # frames that a convolution sees; all but one of them lie behind
STRIDES = {1: (1, 1), 2: (2, 1), 4: (2, 2)}


class State(NamedTuple):
    """What a stream remembers.

    Attributes:
        waiting: of each convolution the inputs that it will see again, (B, channels, t, bins).
        hidden: of each GRU, (1, B, hidden).
    """

    waiting: tuple[torch.Tensor, ...]
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
        UsageError: another stride.
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
        if stride not in STRIDES:
            raise UsageError(f"stride={stride}: expected 1, 2 or 4")
        self.stride, self.channels, self.hidden = stride, channels, hidden
        sizes = zip((1, channels), STRIDES[stride], strict=True)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, channels, WIDTH, (step, 2), padding=(0, 1)) for before, step in sizes
        )
        flat = channels * _halved(_halved(bins))
        self.narrow = nn.Sequential(nn.Linear(flat, hidden), nn.LayerNorm(hidden), nn.ReLU())
        self.dropout = nn.Dropout(dropout)
        both = hidden * (1 + bidirectional)
        widths = [hidden] + [both] * (layers - 1)
        self.forwards = nn.ModuleList(nn.GRU(w, hidden, batch_first=True) for w in widths)
        self.backwards = nn.ModuleList(
            nn.GRU(w, hidden, batch_first=True) for w in widths if bidirectional
        )
        self.head = nn.Linear(both, outputs)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> Frames:
        """(B, T, F) float32, (B,) → (B, ⌈T / stride⌉, outputs)"""
        steps, _ = self._convolved(features, self.begin(features).waiting)
        left = subsampled(lengths, self.stride)
        for i, layer in enumerate(self.forwards):
            steps = self.dropout(steps)
            heard = layer(steps)[0]
            if self.backwards:
                back = self.backwards[i](turned(steps, left))[0]
                heard = torch.cat([heard, turned(back, left)], 2)
            steps = heard
        return Frames(self.head(self.dropout(steps)), left)

    @property
    def streams(self) -> bool:
        """Whether ``hear`` works: nothing that comes later changes what was heard."""
        return not self.backwards

    def begin(self, features: torch.Tensor) -> State:
        """The state before the first of chunks like (B, T, F): silence."""
        batch, _, bins = features.shape
        shapes = ((1, bins), (self.channels, _halved(bins)))
        waiting = tuple(features.new_zeros(batch, c, REACH, width) for c, width in shapes)
        return State(
            waiting, tuple(features.new_zeros(1, batch, self.hidden) for _ in self.forwards)
        )

    def hear(self, features: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        """(B, t, F), the frames that follow → logits of the steps they complete, (B, t', outputs).

        Chunks of any sizes together give what ``forward`` gives for the whole.

        Raises:
            UsageError: the model is bidirectional.
        """
        if not self.streams:
            raise UsageError(
                "a bidirectional model hears no stream: train with bidirectional=False"
            )
        steps, waiting = self._convolved(features, state.waiting)
        hidden = state.hidden
        if steps.shape[1]:
            after = []
            for layer, before in zip(self.forwards, hidden, strict=True):
                steps, then = layer(self.dropout(steps), before)
                after.append(then)
            hidden = tuple(after)
        else:
            steps = steps.new_zeros(*steps.shape[:2], self.head.in_features)
        return self.head(self.dropout(steps)), State(waiting, hidden)

    def _convolved(
        self, features: torch.Tensor, waiting: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """(B, t, F) and what waited → (B, t', hidden) and what waits"""
        maps, left = features.unsqueeze(1), []
        layers = zip(self.convolutions, STRIDES[self.stride], waiting, strict=True)
        for layer, step, before in layers:
            maps = torch.cat([before, maps], 2)
            count = max((maps.shape[2] - WIDTH) // step + 1, 0)
            left.append(maps[:, :, count * step :])
            if count:
                maps = torch.relu(layer(maps))
            else:
                maps = maps.new_zeros(len(maps), self.channels, 0, _halved(maps.shape[3]))
        return self.narrow(maps.transpose(1, 2).flatten(2)), tuple(left)


def _halved(bins: int) -> int:
    """Bins that a convolution of width 3 with padding leaves at every second place."""
    return (bins + 1) // 2
