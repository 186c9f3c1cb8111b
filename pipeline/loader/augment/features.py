"""``SpecAugment`` and ``Mixup``: for features."""

from dataclasses import dataclass

import torch
from torch.nn.functional import one_hot

from pipeline.errors import UsageError
from pipeline.loader.augment.parts import check, drawn, features_of, whole
from pipeline.loader.draws import uniform
from pipeline.loader.split import Batch


@dataclass(frozen=True)
class SpecAugment:
    """Stretches of time and of frequency, set to zero in features (B, T, F).

    Park et al., SpecAugment, 2019, without its warping: a width is 0 to the widest, a begin
    anywhere that the width leaves. Zero should be the mean: normalise the features before.

    Attributes:
        time_masks, freq_masks: how many; they may overlap.
        time_width: the widest in frames; also at most ``p`` of the example's own frames.
        freq_width: the widest in bins.
        p: share of an example that one time mask may take.
    """

    time_masks: int = 2
    time_width: int = 25
    freq_masks: int = 2
    freq_width: int = 7
    p: float = 1.0

    def __post_init__(self) -> None:
        for name in ("time_masks", "time_width", "freq_masks", "freq_width"):
            value = getattr(self, name)
            check(f"SpecAugment: {name}", value, value >= 0, "0 or more")
        check("SpecAugment: p", self.p, 0 <= self.p <= 1, "0 to 1")

    def __call__(self, batch: Batch) -> Batch:
        """The batch with other ``features``."""
        features = features_of(batch, "SpecAugment", 3, "behind")
        lengths, bins = batch["lengths"], torch.full_like(batch["lengths"], features.shape[2])
        widest = (lengths * self.p).long().clamp(max=self.time_width)
        times = _masks(
            drawn(batch, "time masks", 2 * self.time_masks), widest, lengths, features.shape[1]
        )
        widest = bins.clamp(max=self.freq_width)
        freqs = _masks(
            drawn(batch, "frequency masks", 2 * self.freq_masks), widest, bins, features.shape[2]
        )
        return batch | {"features": features.masked_fill(times[:, :, None] | freqs[:, None], 0)}


def _masks(
    drawn: torch.Tensor, widest: torch.Tensor, lengths: torch.Tensor, most: int
) -> torch.Tensor:
    """(B, most) bool: masks of widths 0 to ``widest`` within ``lengths``, both (B,)."""
    for_width, for_begin = drawn[:, 0::2], drawn[:, 1::2]
    widths = whole(for_width, widest[:, None] + 1)
    begins = whole(for_begin, lengths[:, None] - widths + 1)
    places = torch.arange(most, device=drawn.device)
    inside = (places >= begins[..., None]) & (places < (begins + widths)[..., None])
    return inside.any(1)


@dataclass(frozen=True)
class Mixup:
    """Every example mixed with another one of its batch, and their classes in the same shares.

    Zhang et al., mixup: Beyond empirical risk minimization, 2018: λ·own + (1 - λ)·other, λ drawn
    from the beta distribution (``alpha``, ``alpha``). The label becomes (B, classes) float32:
    shares that add up to 1, which ``torch.nn.functional.cross_entropy`` takes as they are;
    ``lengths`` become the longer ones. An example's λ is its own; its partner depends on who else
    is in the batch.

    Attributes:
        label: a class label.
        classes: how many there are, ``len(split.classes[label])``.
    """

    alpha: float
    label: str
    classes: int

    def __post_init__(self) -> None:
        check("Mixup: alpha", self.alpha, self.alpha > 0, "more than 0")

    def __call__(self, batch: Batch) -> Batch:
        """The batch with other ``features``, ``lengths`` and shares of classes."""
        from scipy.special import betaincinv

        features, lengths = batch["features"], batch["lengths"]
        if not features.is_floating_point():
            raise UsageError(f"Mixup: expected features of real numbers, got {features.dtype}")
        rank, level = uniform(batch["seeds"], "Mixup", 2).unbind(1)
        order = rank.argsort()
        partner = torch.empty_like(order)
        partner[order] = order.roll(-1)  # a ring: everybody gives and takes once
        partner = partner.to(features.device)
        own = torch.from_numpy(betaincinv(self.alpha, self.alpha, level.numpy()))
        own = own.to(features.device, features.dtype)
        share = own.reshape(-1, *[1] * (features.ndim - 1))
        shares = one_hot(batch[self.label], self.classes).to(features.dtype)
        return batch | {
            "features": share * features + (1 - share) * features[partner],
            "lengths": torch.maximum(lengths, lengths[partner]),
            self.label: own[:, None] * shares + (1 - own[:, None]) * shares[partner],
        }
