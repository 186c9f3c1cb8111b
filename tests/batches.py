"""Batches made by code: sines of many lengths, spectra of ones."""

from typing import Any

import numpy as np
import torch

from pipeline.loader.draws import seeds_of

Batch = dict[str, Any]
RATE = 16000
LENGTHS = (16000, 9000, 12345, 16000, 400, 15999, 8000, 16000)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def tones(lengths: tuple[int, ...] = LENGTHS, hz: float = 440.0) -> Batch:
    """A batch of sines at a quarter of full scale, zeros behind each."""
    time = torch.arange(max(lengths)) / RATE
    counts = torch.tensor(lengths)
    sine = 0.25 * torch.sin(2 * torch.pi * hz * time).expand(len(lengths), -1)
    own = torch.arange(max(lengths)) < counts[:, None]
    return {
        "features": torch.where(own, sine, 0),
        "lengths": counts,
        "word": torch.arange(len(lengths)) % 3,
        "seeds": seeds_of(1, 2, np.arange(len(lengths))),
    }


def spectra(lengths: tuple[int, ...] = (101, 57, 101, 80, 1)) -> Batch:
    """A batch of ones, (B, 101, 40)."""
    counts = torch.tensor(lengths)
    own = torch.arange(max(lengths)) < counts[:, None]
    features = own[:, :, None].float().repeat(1, 1, 40)
    seeds = seeds_of(3, 0, np.arange(len(lengths)))
    return {"features": features, "lengths": counts, "seeds": seeds}


def rows_of(batch: Batch, rows: list[int]) -> Batch:
    """Some examples of a batch as one of their own, padded no further than they need."""
    part = {name: values[rows] for name, values in batch.items()}
    part["features"] = part["features"][:, : int(part["lengths"].max())]
    return part


def on(batch: Batch, device: str) -> Batch:
    """The batch on a device, its seeds on the CPU."""
    return {n: values if n == "seeds" else values.to(device) for n, values in batch.items()}
