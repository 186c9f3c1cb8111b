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
        UsageError: ``batch_size`` below 1.
    """
    if batch_size < 1:
        raise UsageError(f"batch_size={batch_size}: expected at least 1")
    order = Order(len(split), batch_size, shuffle, seed, drop_last)
    return Loader(
        split,
        batch_sampler=order,
        num_workers=num_workers,
        pin_memory=pin_memory,
        collate_fn=_as_it_is,
        # Else torch draws its workers' seeds from everybody's global generator.
        generator=torch.Generator().manual_seed(seed),
    )


class Loader(torch.utils.data.DataLoader[Batch]):
    """A ``DataLoader`` whose epoch can be set."""

    def set_epoch(self, epoch: int) -> None:
        """Make the next ``iter()`` begin that epoch."""
        order = self.batch_sampler
        if isinstance(order, Order):
            order.next_epoch = epoch


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
        self.next_epoch = 0

    def __len__(self) -> int:
        whole, rest = divmod(self.examples, self.batch_size)
        return whole + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, self.next_epoch = self.next_epoch, self.next_epoch + 1
        indices = np.arange(self.examples)
        if self.shuffle:
            indices = np.random.default_rng([self.seed, epoch]).permutation(indices)
        for i in range(len(self)):
            yield indices[i * self.batch_size : (i + 1) * self.batch_size].tolist()


def _as_it_is(batch: Any) -> Any:
    """``Split.__getitems__`` already gives whole batches."""
    return batch
