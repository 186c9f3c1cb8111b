"""Numbers drawn for every example of a batch: functions of its seed, on no state.

An example's seed is a hash of (seed, epoch, its index); a draw is a hash of (seed of the example,
what it is for, a count). So it doesn't matter in which batch, worker or rank an example is, nor on
which machine. The hash is the finalizer of MurmurHash3; hashing counters is what Salmon et al.
(Parallel random numbers: as easy as 1, 2, 3, 2011) call a counter-based generator.
"""

import hashlib

import numpy as np
import torch

from pipeline.loader.permutation import Numbers, key_of, mixed

STEP = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: counters far from one another
EXAMPLES = 5  # tells this key of (seed, epoch) from those of the order


def seeds_of(seed: int, epoch: int, indices: Numbers) -> torch.Tensor:
    """The seeds of examples by their index in the split: (n,) int64, 0 or more."""
    key = np.uint64(key_of((seed, epoch, EXAMPLES)))
    hashed = mixed(indices.astype(np.uint64) ^ key) >> np.uint64(1)
    return torch.from_numpy(hashed.astype(np.int64))


def uniform(seeds: torch.Tensor, salt: str, count: int) -> torch.Tensor:
    """``count`` numbers in [0, 1) for each example.

    Args:
        seeds: a batch's ``seeds``, (B,) int64.
        salt: what the numbers are for: others for every text.
        count: how many each example gets; more leave the first ones as they are.

    Returns:
        (B, count) float64, on the CPU.
    """
    digest = hashlib.blake2b(salt.encode(), digest_size=8).digest()
    examples = mixed(seeds.cpu().numpy().astype(np.uint64) ^ np.frombuffer(digest, "<u8"))
    counters = np.arange(1, count + 1, dtype=np.uint64) * STEP
    words = mixed(examples[:, None] + counters)
    return torch.from_numpy((words >> np.uint64(11)) * 2.0**-53)
