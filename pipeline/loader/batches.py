"""``make_loader``: a torch ``DataLoader`` of padded batches in a seeded, resumable order."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from pipeline.errors import ShardwellError, UsageError
from pipeline.loader.order import Order
from pipeline.loader.split import Batch, Split
from pipeline.loader.stream_turns import StreamTurns
from pipeline.loader.turns import WINDOW, Batching, Place, Ranks, Turns


def make_loader(
    split: Split,
    batch_size: int | None = None,
    shuffle: bool | str = False,
    seed: int = 0,
    drop_last: bool = False,
    max_frames: int | None = None,
    window: int | None = None,
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

    Args:
        split: what ``open_dataset`` gives.
        batch_size: examples in a batch; with ``max_frames`` the most of them, or None.
        shuffle: True for one permutation of all examples; ``"blocks"``, for data larger than
            memory, permutes blocks of 256 examples and then the examples of 32 blocks, so that a
            disk reads long runs; False for the stored order, which is mixed by a hash of the keys.
        seed: of every epoch's permutation.
        drop_last: whether a smaller last batch is left out.
        max_frames: most frames in a padded batch, its longest example times its size.
        window: examples that are sorted by length together before they are cut into batches, which
            are then mixed; what is padded becomes less. With ``max_frames`` 8,192 unless given.
        num_workers: processes that gather batches. A batch is one copy, so they help only where
            ``transform`` or the disk takes long.
        pin_memory: whether batches are copied to page-locked memory, for a GPU to fetch.
        rank: this process's number among those that share the order out.
        world_size: how many they are.

    Raises:
        UsageError: no batch size at all, one below 1, ``seed`` below 0, ``rank`` not below
            ``world_size``.
    """
    if max_frames is not None and window is None:
        window = WINDOW
    how = shuffle if isinstance(shuffle, str) else "examples" if shuffle else "none"
    turns = Turns(
        Order(len(split), how, seed),
        Batching(batch_size, max_frames, window, drop_last),
        ranks_of(rank, world_size),
        split.lengths,
        split.identity,
    )
    return Loader(split.batch, turns, num_workers, pin_memory)


def ranks_of(rank: int | None, world: int | None) -> Ranks:
    """The ranks that were given, else those that ``torch.distributed`` knows, else one.

    Raises:
        UsageError: one of both is given alone, or ``rank`` is not below ``world``.
    """
    if (rank is None) != (world is None):
        raise UsageError(f"rank={rank}, world_size={world}: expected both or neither")
    if rank is not None and world is not None:
        return Ranks(rank, world)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
    return Ranks(0, 1)


class Loader(torch.utils.data.DataLoader[Batch]):
    """A ``DataLoader`` whose epoch can be set, and whose place in it can be saved and loaded."""

    def __init__(
        self,
        batch: Callable[[Any], Batch],
        turns: Turns | StreamTurns,
        num_workers: int,
        pin_memory: bool,
    ) -> None:
        self._batch, self._turns = batch, turns
        self._sampler = _Sampler(turns)
        super().__init__(
            _Batches(batch),
            sampler=self._sampler,
            batch_size=None,  # the sampler gives whole batches of indices
            collate_fn=_as_it_is,
            num_workers=num_workers,
            pin_memory=pin_memory,
            # Else torch draws its workers' seeds from everybody's global generator.
            generator=torch.Generator().manual_seed(turns.order.seed),
        )
        self._next = Place(0)  # where the next ``iter()`` begins
        self._delivered = Place(0)

    def __len__(self) -> int:
        """Batches of the epoch that the next ``iter()`` serves, from its beginning."""
        return self._turns.rounds(self._next.epoch)

    def set_epoch(self, epoch: int) -> None:
        """Make the next ``iter()`` begin that epoch."""
        self._next = self._delivered = Place(epoch)

    def __iter__(self) -> Any:
        # Not a generator: the epoch is the one at ``iter()``, not the one at the first batch.
        place, self._next = self._next, Place(self._next.epoch + 1)
        if self.num_workers == 0 and not self.pin_memory:
            # Torch's own iterator takes as long as the gather of a small batch.
            return _Delivered(
                self, ((self._batch(i), then) for i, then in self._turns.served(place))
            )
        self._sampler.place, self._sampler.after = place, deque()
        return _Delivered(self, _paired(super().__iter__(), self._sampler.after))

    def delivered(self, place: Place) -> None:
        """Note that the batch before that place was handed over."""
        self._delivered = place

    def state_dict(self) -> dict[str, Any]:
        """Where all ranks are after the batch delivered last: a few numbers.

        Every rank saves the same state at the same step, so one of them is enough. At the end of an
        epoch it is the beginning of the next.
        """
        return self._turns.state(self._delivered)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the next ``iter()`` go on where the state was saved, with any number of ranks.

        Raises:
            UsageError: it was saved with another order: batch size, seed, examples and the like.
        """
        self._next = self._delivered = self._turns.place(dict(state))


class _Delivered:
    """The batches of one ``iter()``: counts what is handed over, not what workers have prepared.

    No generator, which would hold each batch until the next one is made: its memory is then still
    in the processor's cache when the next one needs some.
    """

    def __init__(self, loader: Loader, pairs: Iterator[tuple[Batch, Place]]) -> None:
        self._loader, self._pairs = loader, pairs

    def __iter__(self) -> "_Delivered":
        return self

    def __next__(self) -> Batch:
        batch, place = next(self._pairs)
        self._loader.delivered(place)
        return batch


def _paired(batches: Iterator[Any], after: deque[Place]) -> Iterator[tuple[Batch, Place]]:
    while (batch := next(batches, None)) is not None:
        if isinstance(batch, ShardwellError):
            raise batch
        yield batch, after.popleft()
        del batch


def _as_it_is(batch: Any) -> Any:
    return batch


class _Batches(torch.utils.data.Dataset[Any]):
    """A split whose items are whole batches, by what ``turns`` say of them."""

    def __init__(self, batch: Callable[[Any], Batch]) -> None:
        self.batch = batch

    def __getitem__(self, wanted: Any) -> Batch | ShardwellError:
        try:
            return self.batch(wanted)
        except ShardwellError as error:  # torch would put a worker's traceback into its message
            return error


class _Sampler(torch.utils.data.Sampler[Any]):
    """What ``turns`` say of this rank's batches; ``after`` takes the place after each."""

    def __init__(self, turns: Turns | StreamTurns) -> None:
        self.turns = turns
        self.place, self.after = Place(0), deque[Place]()

    def __len__(self) -> int:
        return self.turns.rounds(self.place.epoch)

    def __iter__(self) -> Iterator[Any]:
        return self._from(self.place, self.after)

    def _from(self, place: Place, after: deque[Place]) -> Iterator[Any]:
        for wanted, then in self.turns.served(place):
            after.append(then)
            yield wanted
