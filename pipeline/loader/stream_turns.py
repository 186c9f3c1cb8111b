"""In which order rows are streamed, and whose turn each batch is.

It is a function of (seed, epoch, rank). In each epoch the shards are permuted; rank r of W takes
the shards r, r + W, …, so that no two ranks fetch the same. The rows of ``GROUP`` consecutive
shards of a rank are permuted together. Batch b of a rank is its rows at b·batch_size and behind, so
the end of one group and the begin of the next may share a batch. Every rank gets equally many
batches: with ``drop_last`` as many whole ones as the rank with the fewest rows has; else ranks that
have fewer take their own first ones again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import UsageError
from pipeline.loader.gather import places_of
from pipeline.loader.order import Order
from pipeline.loader.permutation import Numbers, Permutation
from pipeline.loader.turns import (
    AT_ONCE,
    Batching,
    Place,
    Ranks,
    made_from,
    places_in,
    restored,
    saved,
)

GROUP = 4  # shards whose rows are mixed


class Wanted(NamedTuple):
    """A batch: its rows, (n,) int64, and the shards of its groups and the next, in their order."""

    rows: Numbers
    near: tuple[int, ...]


@dataclass(frozen=True)
class StreamTurns:
    """The batches of a stream.

    Attributes:
        order: ``shuffle`` ``"examples"`` or ``"none"``; without it shards and rows stay as stored.
        batching: batches of a fixed size.
        ranks: a place counts this rank's own batches.
        rows: (shards,) int64, of every shard.
        data: names the examples; a state that was saved with others is refused.
    """

    order: Order
    batching: Batching
    ranks: Ranks
    rows: Numbers
    data: str

    def __post_init__(self) -> None:
        shards = int(np.count_nonzero(self.rows))
        if self.ranks.world > max(shards, 1):
            raise UsageError(
                f"world_size={self.ranks.world}: expected at most {shards}, the number of shards, "
                "for a shard is streamed by one rank; prepare smaller shards or use make_loader"
            )

    def rounds(self, place: Place) -> int:
        """Batches that each rank gets from a place on."""
        size, world = int(self.batching.size or 1), self.ranks.world
        shards = self._dealt(place.epoch)
        rows = np.bincount(np.arange(len(shards)) % world, self.rows[shards], world)
        whole = int(rows.min()) // size if self.batching.drop_last else -(-int(rows.max()) // size)
        return max(whole - place.batch, 0)

    def served(self, place: Place) -> Iterator[tuple[Wanted, Place]]:
        """This rank's batches from a place to the end of its epoch, and the place after each.

        The place after the last one is the beginning of the next epoch.
        """
        epoch, first, size = place.epoch, place.batch, int(self.batching.size or 1)
        mine = self._dealt(epoch)[self.ranks.rank :: self.ranks.world]
        ends = np.cumsum(self.rows[mine])
        rounds, own = first + self.rounds(place), -(-int(ends[-1:].sum()) // size)
        together = max(1, AT_ONCE // size)
        for begin in range(first, rounds, together):
            numbers = np.arange(begin, min(begin + together, rounds)) % max(own, 1)
            places, sizes = places_in(numbers, size, int(ends[-1]))
            groups = np.searchsorted(ends, places, side="right") // GROUP
            rows = self._rows_at(epoch, mine, places, groups)
            stop = 0
            for i, size_of_batch in enumerate(sizes.tolist(), begin + 1):
                start, stop = stop, stop + size_of_batch
                near = mine[groups[start] * GROUP : (groups[stop - 1] + 2) * GROUP]
                wanted = Wanted(rows[start:stop], tuple(near.tolist()))
                yield wanted, (Place(epoch, 0, i) if i < rounds else Place(epoch + 1))

    def state(self, place: Place) -> dict[str, Any]:
        """A place as plain values, with all that it depends on; the same for every rank."""
        return saved(place, self._made_from())

    def place(self, state: Any) -> Place:
        """The place of a saved state.

        Raises:
            UsageError: the state is none, or was saved with other batches or another number of
                ranks.
        """
        return restored(state, self._made_from())

    def _made_from(self) -> dict[str, Any]:
        streamed = {"world_size": self.ranks.world, "group": GROUP}
        return made_from(self.batching, self.order, self.data) | streamed

    @cached_property
    def _firsts(self) -> Numbers:
        """(shards,) the first row of every shard."""
        firsts: Numbers = np.cumsum(self.rows) - self.rows
        return firsts

    def _dealt(self, epoch: int) -> Numbers:
        """The shards that have rows, in the epoch's order."""
        shards = np.flatnonzero(self.rows)
        if self.order.shuffle == "none":
            return shards
        return shards[Permutation(len(shards), (self.order.seed, epoch, 5))(np.arange(len(shards)))]

    def _rows_at(self, epoch: int, mine: Numbers, places: Numbers, groups: Numbers) -> Numbers:
        """The rows at some places of this rank; ``mine`` are its shards, ``groups`` the places'."""
        before = np.concatenate([[0], np.cumsum(self.rows[mine])])
        rows = np.empty_like(places)
        for group in np.unique(groups).tolist():
            here, shards = groups == group, mine[group * GROUP : (group + 1) * GROUP]
            ends = np.cumsum(self.rows[shards])
            inside = places[here] - before[group * GROUP]
            if self.order.shuffle != "none":
                key = self.order.seed, epoch, 6, int(shards[0])
                inside = Permutation(int(ends[-1]), key)(inside)
            numbers, row = places_of(ends, inside)
            rows[here] = self._firsts[shards][numbers] + row
        return rows
