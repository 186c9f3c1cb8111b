"""What turns a clip of any length into one vector; padding counts for nothing."""

import torch


def turned(steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(B, T, C) → the same with each example's own steps in reverse; padding stays behind them."""
    places = torch.arange(steps.shape[1], device=steps.device).unsqueeze(0)
    mirrored = lengths.unsqueeze(1) - 1 - places
    where = torch.where(mirrored >= 0, mirrored, places)
    return steps.gather(1, where.unsqueeze(2).expand_as(steps))
