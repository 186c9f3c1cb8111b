"""Layers that give for a stream, chunk by chunk, what they give for the whole clip."""

import torch
from torch import nn

from pipeline.errors import UsageError
from pipeline.train.models.pooling import turned

REACH = 2  # frames behind the first one that a 3×3 convolution sees


class LookBack(nn.Module):
    """Convolutions along (T, F) that see no frame of the future.

    Args:
        layer: of 3×3 convolutions without padding in time: (B, C, T, F) → (B, C', T', F').
        width: frames that one frame of the result is made from.
        step: frames from one of those places to the next.
    """

    def __init__(self, layer: nn.Module, width: int, step: int) -> None:
        super().__init__()
        self.layer, self.width, self.step = layer, width, step

    def forward(
        self, maps: torch.Tensor, waiting: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, C, t, F), the frames that follow what waited → (B, C', t', F') and what waits.

        Before the first frame nothing waited, which is silence.
        """
        batch, channels, _, bins = maps.shape
        before = maps.new_zeros(batch, channels, REACH, bins) if waiting is None else waiting
        maps = torch.cat([before, maps], dim=2)
        count = max((maps.shape[2] - self.width) // self.step + 1, 0)
        left = maps[:, :, count * self.step :]
        if not count:  # no layer takes nothing: one place of silence, dropped
            silence = maps.new_zeros(batch, channels, self.width, bins)
            return self.layer(silence)[:, :, :0], left
        return self.layer(maps[:, :, : (count - 1) * self.step + self.width]), left


Waiting = tuple[torch.Tensor | None, torch.Tensor | None]
NOTHING: Waiting = (None, None)


def convolved(
    layers: nn.ModuleList, features: torch.Tensor, waiting: Waiting = NOTHING
) -> tuple[torch.Tensor, Waiting]:
    """(B, t, F) through two ``LookBack`` → (B, t', C' · F') and what waits for the next frames."""
    maps, first = layers[0](features.unsqueeze(1), waiting[0])
    maps, second = layers[1](maps, waiting[1])
    return maps.transpose(1, 2).flatten(2), (first, second)


class Gru(nn.Module):
    """A GRU, and, if it is bidirectional, another one that hears the clip from its end.

    Two of one direction, not one of two: each example is turned by itself, so that no padding is
    heard, and ONNX's operator takes them.
    """

    def __init__(self, width: int, hidden: int, bidirectional: bool) -> None:
        super().__init__()
        self.there = nn.GRU(width, hidden, batch_first=True)
        self.back = nn.GRU(width, hidden, batch_first=True) if bidirectional else None

    def forward(self, steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, T, width) and (B,) lengths → (B, T, hidden), or 2 · hidden of both directions."""
        heard: torch.Tensor = self.there(steps)[0]
        if self.back is None:
            return heard
        back = self.back(turned(steps, lengths))[0]
        return torch.cat([heard, turned(back, lengths)], dim=2)

    def hear(self, steps: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, t, width), the steps that follow, and (1, B, hidden) → (B, t, hidden), the state.

        Raises:
            UsageError: the GRU is bidirectional.
        """
        if self.back is not None:
            raise UsageError(
                "a bidirectional model hears no stream: train with bidirectional=False"
            )
        if not steps.shape[1]:  # no GRU takes nothing
            return steps.new_zeros(*steps.shape[:2], hidden.shape[2]), hidden
        given, after = self.there(steps, hidden)
        return given, after
