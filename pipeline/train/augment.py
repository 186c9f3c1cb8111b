"""Changes to training examples on the device, drawn from torch's generator, seeded at each step.

Samples (B, n) are shifted and mixed with noise before features are computed; features (B, T, F) are
shifted where there are no samples, and masked (SpecAugment, Park et al., arXiv:1904.08779).
"""

import torch

AUGMENTATIONS = ("shift", "noise", "mask")
SHIFT = 0.1  # of the length, to either side
SNR = (0.0, 25.0)  # dB
NOISY = 0.8  # share of the examples that get noise
MASKS = 2  # of each kind
WIDEST = {1: 0.2, 2: 0.18}  # dimension → share of it that one mask hides at most


def shifted(values: torch.Tensor) -> torch.Tensor:
    """(B, T, …) → the same, each example moved by up to a tenth in time; zeros come in."""
    batch, most = values.shape[0], int(values.shape[1] * SHIFT)
    moves = torch.randint(-most, most + 1, (batch, 1), device=values.device)
    places = torch.arange(values.shape[1], device=values.device) - moves
    inside = (places >= 0) & (places < values.shape[1])
    places, inside = (
        x.reshape(batch, -1, *[1] * (values.dim() - 2)).expand_as(values)
        for x in (places.clamp(0, values.shape[1] - 1), inside)
    )
    return torch.where(inside, values.gather(1, places), 0.0)


def noisy(samples: torch.Tensor) -> torch.Tensor:
    """(B, n) → most of them with noise 0 to 25 dB below, its spectrum falling as 1/f^0…2."""
    batch = len(samples)
    slope = torch.rand(batch, 1, device=samples.device)
    noise = coloured(torch.randn_like(samples), slope)
    low, high = SNR
    snr = low + (high - low) * torch.rand(batch, 1, device=samples.device)
    mixed = mixed_at(samples, noise, snr)
    chosen = torch.rand(batch, 1, device=samples.device) < NOISY
    return torch.where(chosen, mixed, samples)


def coloured(white: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """(B, n) white noise, (B, 1) slope → amplitude 1/f^slope: 0.5 is pink, 1 brown; level below."""
    n = white.shape[1]
    spectrum = torch.fft.rfft(white)
    lowest = n // 500 + 1  # 32 Hz at 16 kHz
    frequencies = torch.arange(spectrum.shape[1], device=white.device).clamp(min=lowest)
    noise: torch.Tensor = torch.fft.irfft(spectrum * frequencies ** -slope.to(white.device), n)
    return noise


def mixed_at(samples: torch.Tensor, noise: torch.Tensor, snr: torch.Tensor | float) -> torch.Tensor:
    """(B, n) and (B, n) → their sum, the noise scaled to ``snr`` dB below the samples' power."""
    power, own = (x.square().mean(dim=1, keepdim=True) for x in (samples, noise))
    return samples + noise * (power / own.clamp(min=1e-12) * 10 ** (-snr / 10)).sqrt()


def masked(features: torch.Tensor) -> torch.Tensor:
    """(B, T, F) normalised → the same with two stretches of time and two of bins set to 0."""
    hidden = torch.zeros_like(features, dtype=torch.bool)
    for dim, share in WIDEST.items():
        size = features.shape[dim]
        for _ in range(MASKS):
            width = torch.rand(len(features), 1, device=features.device) * share * size
            begin = torch.rand(len(features), 1, device=features.device) * (size - width)
            places = torch.arange(size, device=features.device)
            band = (places >= begin) & (places < begin + width)
            hidden |= band.unsqueeze(3 - dim)
    return features.masked_fill(hidden, 0.0)
