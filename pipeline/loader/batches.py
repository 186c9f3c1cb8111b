"""``make_loader``: a torch ``DataLoader`` of padded batches in a seeded order."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from pipeline.errors import UsageError
from pipeline.loader.split import Batch, Split


def make_loader(
    split: Split,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
    num_workers: int = 0,
    pin_memory: bool = False,
) -> "Loader":
    """A ``DataLoader`` over a split: padded batches with ``lengths`` and every label.

    Each ``iter()`` begins the next epoch, the first being 0; ``set_epoch`` sets it. The order is a
    pure function of (seed, epoch), whatever ``num_workers``.

    Raises:
        UsageError: ``batch_size`` below 1, ``seed`` below 0.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size={batch_size}: expected at least 1")
    if not 0 <= seed < 1 << 63:
        raise UsageError(f"seed={seed}: expected 0 to 2^63 - 1")
    order = Order(len(split), batch_size, shuffle, seed, drop_last)
    return Loader(split, order, num_workers, pin_memory)


class Loader(torch.utils.data.DataLoader[Batch]):
    """A ``DataLoader`` whose epoch can be set."""

    def __init__(self, split: Split, order: "Order", num_workers: int, pin_memory: bool) -> None:
        super().__init__(
            _Batches(split),
            sampler=order,
            batch_size=None,  # the sampler gives whole batches of indices
            num_workers=num_workers,
            pin_memory=pin_memory,
            # Else torch draws its workers' seeds from everybody's global generator.
            generator=torch.Generator().manual_seed(order.seed),
        )
        self._order = order
        self._next_epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Make the next ``iter()`` begin that epoch."""
        self._next_epoch = epoch

    def __iter__(self) -> Any:
        self._order.epoch, self._next_epoch = self._next_epoch, self._next_epoch + 1
        return super().__iter__()


class _Batches(torch.utils.data.Dataset[Batch]):
    """A split whose items are whole batches, by lists of indices."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __getitem__(self, indices: list[int]) -> Batch:
        return self.split.batch(indices)


class Order(torch.utils.data.Sampler[list[int]]):
    """Batches of indices in the order of an epoch."""

    def __init__(
        self, examples: int, batch_size: int, shuffle: bool, seed: int, drop_last: bool
    ) -> None:
        self.examples = examples
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.drop_last = drop_last
        self.epoch = 0

    def __len__(self) -> int:
        whole, rest = divmod(self.examples, self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        # Not a generator: the epoch is the one at ``iter()``, not the one at the first batch.
        return self._batches(self.epoch)

    def _batches(self, epoch: int) -> Iterator[list[int]]:
        indices = np.arange(self.examples)
        if self.shuffle:
            indices = np.random.default_rng([self.seed, epoch]).permutation(indices)
        for i in range(len(self)):
            yield indices[i * self.batch_size : (i + 1) * self.batch_size].tolist()
