"""What turns a clip of any length into one vector; padding counts for nothing."""

import torch


def present(lengths: torch.Tensor, most: int) -> torch.Tensor:
    """(B,) lengths → (B, most) bool: whether a step belongs to its example."""
    return torch.arange(most, device=lengths.device) < lengths.unsqueeze(1)


def mean_over(steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(B, T, C) → (B, C): the mean of each example's own steps."""
    inside = present(lengths, steps.shape[1]).unsqueeze(2)
    total = torch.where(inside, steps, 0.0).sum(dim=1)
    return total / lengths.clamp(min=1).unsqueeze(1)


def last_of(steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(B, T, C) → (B, C): each example's own last step."""
    where = (lengths - 1).clamp(min=0).reshape(-1, 1, 1).expand(-1, 1, steps.shape[2])
    return steps.gather(1, where).squeeze(1)


def turned(steps: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """(B, T, C) → the same with each example's own steps in reverse; padding stays behind them."""
    places = torch.arange(steps.shape[1], device=steps.device).unsqueeze(0)
    mirrored = lengths.unsqueeze(1) - 1 - places
    where = torch.where(mirrored >= 0, mirrored, places)
    return steps.gather(1, where.unsqueeze(2).expand_as(steps))
