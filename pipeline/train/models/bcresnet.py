"""BC-ResNet: broadcasted residual learning for keywords (Kim et al., arXiv:2106.04140, 2021)."""

from itertools import pairwise

import torch
from torch import nn

from pipeline.train.models.pooling import mean_over
from pipeline.train.models.values import check_counts, check_share

STAGES = ((2, 1, 1.0), (2, 2, 1.5), (4, 2, 2.0), (4, 1, 2.5))  # blocks, stride in bins, width
BANDS = 5  # of bins that are normalised apart


class BandNorm(nn.Module):
    """Batch normalisation of bands of bins apart: (B, C, F, T) → the same."""

    def __init__(self, channels: int, bins: int) -> None:
        super().__init__()
        self.bands = next(n for n in range(min(BANDS, bins), 0, -1) if bins % n == 0)
        self.norm = nn.BatchNorm2d(channels * self.bands)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Bands become channels, and back."""
        batch, channels, bins, steps = maps.shape
        banded = maps.reshape(batch, channels * self.bands, bins // self.bands, steps)
        normal: torch.Tensor = self.norm(banded).reshape(batch, channels, bins, steps)
        return normal


class Block(nn.Module):
    """x + f₂(x) + broadcast(f₁(mean of f₂(x) over bins)); x only where the shape stays.

    f₂ is a depthwise convolution along the bins, f₁ one along time, with dilation, and a 1×1.
    ``bins`` are those after f₂, which takes every ``stride``-th.
    """

    def __init__(
        self, before: int, after: int, bins: int, stride: int, dilation: int, dropout: float
    ) -> None:
        super().__init__()
        self.stays = before == after
        widen = [nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        along_bins = nn.Conv2d(after, after, (3, 1), (stride, 1), (1, 0), groups=after, bias=False)
        self.f2 = nn.Sequential(*([] if self.stays else widen), along_bins, BandNorm(after, bins))
        around = (0, dilation)
        self.f1 = nn.Sequential(
            nn.Conv2d(after, after, (1, 3), 1, around, (1, dilation), groups=after, bias=False),
            nn.BatchNorm2d(after),
            nn.SiLU(),
            nn.Conv2d(after, after, 1, bias=False),
            nn.Dropout2d(dropout),
        )

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(B, before, F, T) → (B, after, F / stride, T)"""
        local = self.f2(maps)
        found: torch.Tensor = local + self.f1(local.mean(dim=2, keepdim=True))
        return (found + maps if self.stays else found).relu()


class BcResNet(nn.Module):
    """A convolution, four stages of blocks whose dilation doubles, a 5-step convolution, the mean.

    Args:
        bins, outputs: F, 40 in the paper, and the number of classes.
        scale: width in eights of channels: 1 has 9 thousand parameters, 2 has 28, 8 about 320.
        dropout: share of channels that training silences in each block.

    Raises:
        UsageError: an option that makes no model.
    """

    def __init__(self, bins: int, outputs: int, scale: int = 2, dropout: float = 0.1) -> None:
        super().__init__()
        check_counts(scale=scale)
        check_share(dropout=dropout)
        base = 8 * scale
        bins = -(-bins // 2)
        self.begin = nn.Sequential(
            nn.Conv2d(1, 2 * base, 5, (2, 1), 2, bias=False), nn.BatchNorm2d(2 * base), nn.ReLU()
        )
        blocks: list[nn.Module] = []
        widths = [2 * base, *(int(width * base) for _, _, width in STAGES)]
        for i, ((before, after), (count, stride, _)) in enumerate(
            zip(pairwise(widths), STAGES, strict=True)
        ):
            bins = -(-bins // stride)
            for n in range(count):
                own = (before, stride) if n == 0 else (after, 1)
                blocks.append(Block(own[0], after, bins, own[1], 2**i, dropout))
        self.blocks = nn.Sequential(*blocks)
        last, wide = widths[-1], 4 * base
        self.end = nn.Sequential(
            nn.Conv2d(last, last, (bins, 5), padding=(0, 2), groups=last, bias=False),
            nn.Conv2d(last, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU(),
        )
        self.head = nn.Linear(wide, outputs)

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """(B, T, F) and (B,) lengths → (B, outputs) logits."""
        maps = self.begin(features.transpose(1, 2).unsqueeze(1))  # (B, C, F / 2, T)
        steps = self.end(self.blocks(maps)).squeeze(2).transpose(1, 2)  # (B, T, 4 · base)
        logits: torch.Tensor = self.head(mean_over(steps, lengths))
        return logits
