"""``make_loader``: a torch ``DataLoader`` of padded batches in a seeded, resumable order."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import torch

from pipeline.errors import UsageError
from pipeline.loader.order import Order, Ranks, check_same, index_batches
from pipeline.loader.permutation import Numbers
from pipeline.loader.split import Batch, Split


def make_loader(
    split: Split,
    batch_size: int,
    shuffle: bool = False,
    seed: int = 0,
    drop_last: bool = False,
    num_workers: int = 0,
    pin_memory: bool = False,
    rank: int | None = None,
    world_size: int | None = None,
) -> "Loader":
    """A ``DataLoader`` over a split: padded batches with ``lengths`` and every label.

    Each ``iter()`` begins the next epoch, the first being 0; ``set_epoch`` sets it. The order is a
    pure function of (seed, epoch), whatever ``num_workers``; ranks share it out, as found from
    ``torch.distributed`` or given. Every rank gets equally many batches: with ``drop_last`` what
    can't be shared out equally is left out, else the ranks that lack a batch take the epoch's first
    ones again.

    Raises:
        UsageError: ``batch_size`` below 1, ``seed`` below 0, ``rank`` not below ``world_size``.
    """
    order = Order(len(split), batch_size, shuffle, seed, drop_last)
    return Loader(split, order, _ranks(rank, world_size, drop_last), num_workers, pin_memory)


def _ranks(rank: int | None, world: int | None, drop: bool) -> Ranks:
    if (rank is None) != (world is None):
        raise UsageError(f"rank={rank}, world_size={world}: expected both or neither")
    if rank is not None and world is not None:
        return Ranks(rank, world, drop)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size(), drop)
    return Ranks(0, 1, drop)


class Loader(torch.utils.data.DataLoader[Batch]):
    """A ``DataLoader`` whose epoch can be set, and whose place in it can be saved and loaded."""

    def __init__(
        self, split: Split, order: Order, ranks: Ranks, num_workers: int, pin_memory: bool
    ) -> None:
        self._turns = _Turns(order, ranks)
        super().__init__(
            _Batches(split),
            sampler=self._turns,
            batch_size=None,  # the sampler gives whole batches of indices
            num_workers=num_workers,
            pin_memory=pin_memory,
            # Else torch draws its workers' seeds from everybody's global generator.
            generator=torch.Generator().manual_seed(order.seed),
        )
        self._epoch, self._first = 0, 0  # of the next ``iter()``
        self._state = (0, 0)  # the epoch under way, and the batches of it that all ranks delivered

    def set_epoch(self, epoch: int) -> None:
        """Make the next ``iter()`` begin that epoch."""
        self._epoch, self._first = epoch, 0
        self._state = (epoch, 0)

    def __iter__(self) -> Any:
        # Not a generator: the epoch is the one at ``iter()``, not the one at the first batch.
        self._turns.epoch, self._turns.first = self._epoch, self._first
        self._epoch, self._first = self._epoch + 1, 0
        return self._delivered(super().__iter__(), self._turns.epoch, self._turns.first)

    def _delivered(self, batches: Iterator[Batch], epoch: int, first: int) -> Iterator[Batch]:
        """Count what is handed over, not what workers have prepared."""
        world, whole = self._turns.ranks.world, self._turns.order.batches
        for turn, batch in enumerate(batches, 1):
            done = first + turn * world
            ended = turn == self._turns.ranks.rounds(whole, first)
            self._state = (epoch + 1, 0) if ended else (epoch, done)
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where all ranks are after the batch delivered last: a few numbers.

        Every rank saves the same state at the same step, so one of them is enough. At the end of an
        epoch it is the beginning of the next.
        """
        epoch, first = self._state
        return {"epoch": epoch, "batches": first, "order": asdict(self._turns.order)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next ``iter()`` go on where the state was saved, with any number of ranks.

        Raises:
            UsageError: it was saved with another order: batch size, seed, examples and the like.
        """
        check_same(asdict(self._turns.order), state.get("order"))
        epoch, first = state.get("epoch"), state.get("batches")
        if not isinstance(epoch, int) or not isinstance(first, int) or min(epoch, first) < 0:
            raise UsageError(f"the state of a loader: expected epoch and batches, got {state!r}")
        self._epoch, self._first = epoch, first
        self._state = (epoch, first)


class _Batches(torch.utils.data.Dataset[Batch]):
    """A split whose items are whole batches, by their indices."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __getitem__(self, indices: Numbers) -> Batch:
        return self.split.batch(indices)


class _Turns(torch.utils.data.Sampler[Numbers]):
    """This rank's batches of indices, of the epoch and from the batch that were set last."""

    def __init__(self, order: Order, ranks: Ranks) -> None:
        self.order, self.ranks = order, ranks
        self.epoch, self.first = 0, 0

    def __len__(self) -> int:
        return self.ranks.rounds(self.order.batches, 0)

    def __iter__(self) -> Iterator[Numbers]:
        return index_batches(self.order, self.ranks, self.epoch, self.first)
