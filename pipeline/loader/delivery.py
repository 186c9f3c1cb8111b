"""``Loader``: a torch ``DataLoader`` whose epoch can be set, and whose place can be saved."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch

from pipeline.errors import ShardwellError, UsageError
from pipeline.loader.order import whole
from pipeline.loader.split import Batch
from pipeline.loader.turns import Place

Made = Callable[[int, Any], Batch]  # (epoch, what the turns say of a batch) → the batch
Pair = tuple[Batch, Place]
Then = Callable[[Pair], Pair]


class TurnsOf(Protocol):
    """Which batches are this rank's, in their order: ``Turns`` and ``StreamTurns``."""

    def rounds(self, place: Place) -> int:
        """Batches that each rank gets from a place on."""
        ...

    def served(self, place: Place) -> Iterator[tuple[Any, Place]]:
        """What there is to say of each batch from a place on, and the place after it."""
        ...

    def state(self, place: Place) -> dict[str, Any]:
        """A place as plain values."""
        ...

    def place(self, state: Any) -> Place:
        """The place of a saved state."""
        ...


class Loader(torch.utils.data.DataLoader[Batch]):
    """A ``DataLoader`` whose epoch can be set, and whose place in it can be saved and loaded.

    Each ``iter()`` begins the next epoch. Where several are under way, the state is that of the one
    that delivered last.
    """

    def __init__(
        self,
        made: Made,
        then: Then | None,
        turns: TurnsOf,
        examples: int,
        seed: int,
        num_workers: int,
        pin_memory: bool,
    ) -> None:
        self._made, self._then, self._turns = made, then, turns
        self._sampler = _Sampler(turns)
        super().__init__(
            _Batches(made, examples),
            sampler=self._sampler,
            batch_size=None,  # the sampler gives whole batches
            collate_fn=_as_it_is,
            num_workers=num_workers,
            pin_memory=pin_memory,
            # Else torch draws its workers' seeds from everybody's global generator.
            generator=torch.Generator().manual_seed(seed),
        )
        self._next = Place(0)  # where the next ``iter()`` begins
        self._delivered = Place(0)
        self._rounds: tuple[Place, int] | None = None

    def __len__(self) -> int:
        """Batches that the next ``iter()`` serves: of a whole epoch, or what a state left of it."""
        if self._rounds is None or self._rounds[0] != self._next:
            self._rounds = self._next, self._turns.rounds(self._next)  # may read every length
        return self._rounds[1]

    def set_epoch(self, epoch: int) -> None:
        """Make the next ``iter()`` begin that epoch.

        It changes nothing where that epoch comes next in any case; so a loop that sets every epoch
        goes on in the midst of one after ``load_state_dict``.

        Raises:
            UsageError: it is no whole number from 0 on.
        """
        epoch = whole("epoch", epoch, "a whole number from 0 on")
        if epoch < 0:
            raise UsageError(f"epoch={epoch}: expected a whole number from 0 on")
        if epoch != self._next.epoch:
            self._next = self._delivered = Place(epoch)

    def __iter__(self) -> Any:
        # Not a generator: the epoch is the one at ``iter()``, not the one at the first batch.
        place, self._next = self._next, Place(self._next.epoch + 1)
        self._delivered = place
        pairs: Iterator[Pair]
        if self.num_workers == 0 and not self.pin_memory:
            # Torch's own iterator takes as long as the gather of a small batch.
            pairs = _Direct(self._made, place.epoch, self._turns.served(place))
        else:
            self._sampler.place, self._sampler.after = place, deque()
            pairs = _Handed(super().__iter__(), self._sampler.after)
        return _Counted(self, place, map(self._then, pairs) if self._then else pairs)

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
        """Make the next ``iter()`` go on where the state was saved, with any number of workers.

        Raises:
            UsageError: it was saved with another order: batch size, seed, examples and the like.
        """
        self._next = self._delivered = self._turns.place(state)


# What follows are no generators: these hold a batch until the next one is made, and its memory is
# then not at hand for that; and they end for good with the first error.


class _Counted:
    """The batches of one ``iter()``; counts what is handed over, not what workers have prepared."""

    def __init__(self, loader: Loader, place: Place, pairs: Iterator[Pair]) -> None:
        self._loader, self._place, self._pairs = loader, place, pairs

    def __iter__(self) -> "_Counted":
        return self

    def __next__(self) -> Batch:
        try:
            batch, place = next(self._pairs)
        except StopIteration:
            self._loader.delivered(Place(self._place.epoch + 1))  # also where nothing was left
            raise
        self._loader.delivered(place)
        return batch


class _Direct:
    """Batches made in this process."""

    def __init__(self, made: Made, epoch: int, served: Iterator[tuple[Any, Place]]) -> None:
        self._made, self._epoch, self._served = made, epoch, served

    def __iter__(self) -> "_Direct":
        return self

    def __next__(self) -> Pair:
        wanted, place = next(self._served)
        return self._made(self._epoch, wanted), place


class _Handed:
    """Batches that workers made; an error of theirs is raised as they had it."""

    def __init__(self, batches: Iterator[Any], after: deque[Place]) -> None:
        self._batches, self._after = batches, after

    def __iter__(self) -> "_Handed":
        return self

    def __next__(self) -> Pair:
        try:
            batch = next(self._batches)
        except StopIteration:
            raise
        except Exception:  # the caller may go on: the batch behind then needs its own place
            if self._after:
                self._after.popleft()
            raise
        place = self._after.popleft()
        if isinstance(batch, ShardwellError):
            raise batch
        return batch, place


def _as_it_is(batch: Any) -> Any:
    return batch


class _Batches(torch.utils.data.Dataset[Any]):
    """Examples whose items are whole batches, by epoch and what the turns say of them."""

    def __init__(self, made: Made, examples: int) -> None:
        self._made, self._examples = made, examples

    def __len__(self) -> int:
        return self._examples

    def __getitem__(self, turn: tuple[int, Any]) -> Batch | ShardwellError:
        try:
            return self._made(*turn)
        except ShardwellError as error:  # torch would put a worker's traceback into its message
            return error


class _Sampler(torch.utils.data.Sampler[tuple[int, Any]]):
    """What the turns say of this rank's batches; ``after`` takes the place after each."""

    def __init__(self, turns: TurnsOf) -> None:
        self.turns = turns
        self.place, self.after = Place(0), deque[Place]()

    def __len__(self) -> int:
        return self.turns.rounds(self.place)

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        return self._from(self.place, self.after)

    def _from(self, place: Place, after: deque[Place]) -> Iterator[tuple[int, Any]]:
        for wanted, then in self.turns.served(place):
            after.append(then)
            yield place.epoch, wanted
