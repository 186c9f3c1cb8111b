"""How an order becomes batches, and whose turn each batch is.

Batches are numbered over all ranks together. From a place on, rank r of W takes the batches r,
r + W, …; so the place alone says what was served, whatever the number of ranks was before and will
be. Every rank gets equally many. Where the batches that are left can't be shared out equally, they
are left out if ``drop_last`` says so; else the ranks that lack one take the epoch's first batches
again.

Without length buckets batch b is the examples at b·batch_size and behind. With them, a window of
the order is sorted by length and cut. Batches of a fixed size are found by their number in no time;
where ``max_frames`` cuts them they can only be counted, window after window, by every rank.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain, count, islice
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import UsageError
from pipeline.loader.order import Order, whole
from pipeline.loader.permutation import Numbers, Permutation

AT_ONCE = 8192  # places that are looked up together: one by one they take ten times as long
WINDOW = 8192
SHOWN = {"size": "batch_size"}  # by the names that users know

Lengths = Callable[[Numbers], Numbers]  # examples → their lengths in frames


class Place(NamedTuple):
    """Where all ranks are: the batch that comes next; of its window where ``max_frames`` cuts."""

    epoch: int
    window: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Batching:
    """How an order is cut into batches.

    Attributes:
        size: most examples in a batch; None where only ``max_frames`` bounds it.
        max_frames: most frames in a padded batch: its longest example times the number of them. An
            example that is longer is a batch of its own.
        window: examples that are sorted by length together; None for batches of any lengths.
        drop_last: whether a smaller last batch is left out, and what ranks can't share out equally.
    """

    size: int | None
    max_frames: int | None = None
    window: int | None = None
    drop_last: bool = False

    def __post_init__(self) -> None:
        for name in ("size", "max_frames", "window"):
            if getattr(self, name) is not None:
                shown, expected = SHOWN.get(name, name), "a whole number, at least 1"
                value = whole(shown, getattr(self, name), expected)
                object.__setattr__(self, name, value)
                if value < 1:
                    raise UsageError(f"{shown}={value}: expected {expected}")
        if self.size is None and self.max_frames is None:
            raise UsageError("batch_size=None, max_frames=None: expected one of them, or both")
        if self.max_frames is not None and self.window is None:
            raise UsageError("window=None: expected a number of examples beside max_frames")


@dataclass(frozen=True)
class Ranks:
    """Which of the batches are this process's: ``rank`` of ``world``."""

    rank: int
    world: int

    def __post_init__(self) -> None:
        for name, shown in (("rank", "rank"), ("world", "world_size")):
            value = whole(shown, getattr(self, name), "a whole number")
            object.__setattr__(self, name, value)
        if not 0 <= self.rank < self.world:
            raise UsageError(f"rank={self.rank}: expected 0 to world_size - 1 = {self.world - 1}")


@dataclass(frozen=True)
class Turns:
    """An order, how it is cut, whose turn it is; ``lengths`` is asked only where there are windows.

    Attributes:
        data: names the examples; a state that was saved with others is refused.
    """

    order: Order
    batching: Batching
    ranks: Ranks
    lengths: Lengths
    data: str = ""

    def rounds(self, place: Place) -> int:
        """Batches that each rank gets from a place on; ``max_frames`` has every length read."""
        if self.batching.max_frames is None:
            return self._shared(max(self._batches() - place.batch, 0))
        windows = range(place.window, self._windows())
        left = sum(len(self._window(place.epoch, w)) for w in windows) - place.batch
        return self._shared(max(left, 0))

    def served(self, place: Place) -> Iterator[tuple[Numbers, Place]]:
        """This rank's batches from a place to the end of its epoch, and the place after each.

        A batch is (n,) int64. The place after the last one is the beginning of the next epoch.
        """
        return self._numbered(place) if self.batching.max_frames is None else self._cut(place)

    def state(self, place: Place) -> dict[str, Any]:
        """A place as plain values, with all that it depends on but the number of ranks."""
        return saved(place, made_from(self.batching, self.order, self.data))

    def place(self, state: Any) -> Place:
        """The place of a saved state.

        Raises:
            UsageError: the state is none, or was saved with other batches, another order or data.
        """
        return restored(state, made_from(self.batching, self.order, self.data))

    def _batches(self) -> int:
        """Batches of an epoch, all ranks together, where they have a fixed size."""
        whole, rest = divmod(self.order.examples, int(self.batching.size or 1))
        return whole + bool(rest and not self.batching.drop_last)

    def _shared(self, batches: int) -> int:
        """What each rank gets of so many batches."""
        return (
            batches // self.ranks.world
            if self.batching.drop_last
            else -(-batches // self.ranks.world)
        )

    def _numbered(self, place: Place) -> Iterator[tuple[Numbers, Place]]:
        """Batches of a fixed size, which are found by their number: this rank's alone."""
        rank, world, batches = self.ranks.rank, self.ranks.world, self._batches()
        rounds = self.rounds(place)
        together = max(1, AT_ONCE // int(self.batching.size or 1))
        find = self._looked_up if self.batching.window is None else self._sorted
        for begin in range(0, rounds, together):
            numbers = place.batch + rank + world * np.arange(begin, min(begin + together, rounds))
            # Where no batch is left, the epoch's first ones again.
            numbers = np.where(numbers < batches, numbers, (numbers - batches) % max(batches, 1))
            for i, batch in enumerate(find(place.epoch, numbers), begin + 1):
                after = Place(place.epoch, 0, place.batch + i * world)
                yield batch, (after if i < rounds else Place(place.epoch + 1))

    def _looked_up(self, epoch: int, numbers: Numbers) -> Iterator[Numbers]:
        """Batches without windows, their places looked up together."""
        places, sizes = places_in(numbers, int(self.batching.size or 1), self.order.examples)
        examples, stop = self.order.at(epoch, places), 0
        for length in sizes.tolist():
            start, stop = stop, stop + length
            yield examples[start:stop]

    def _sorted(self, epoch: int, numbers: Numbers) -> Iterator[Numbers]:
        """Batches of windows: those windows alone that hold some of them."""
        held, batches = -1, list[Numbers]()
        for number in numbers.tolist():
            window, i = divmod(number, self._span() // int(self.batching.size or 1))
            if window != held:
                held, batches = window, self._window(epoch, window)
            yield batches[i]

    def _cut(self, place: Place) -> Iterator[tuple[Numbers, Place]]:
        """Batches that ``max_frames`` cuts, which follow one another.

        A round is held back until it is known whether another follows.
        """
        rank, world = self.ranks.rank, self.ranks.world
        batches = self._from(place)
        held: tuple[Numbers, Place] | None = None
        while found := list(islice(batches, world)):
            if len(found) < world:
                if self.batching.drop_last:
                    break
                found += islice(self._again(place.epoch), world - len(found))
            if held:
                yield held
            held = found[rank][0], found[-1][1]
        if held:
            yield held[0], Place(place.epoch + 1)

    def _again(self, epoch: int) -> Iterator[tuple[Numbers, Place]]:
        """The epoch's batches over and over."""
        return chain.from_iterable(self._from(Place(epoch)) for _ in count())

    def _from(self, place: Place) -> Iterator[tuple[Numbers, Place]]:
        """The batches of all ranks from a place on, and the place after each."""
        first = place.batch
        for number in range(place.window, self._windows()):
            batches = self._window(place.epoch, number)
            for i in range(first, len(batches)):
                yield batches[i], Place(place.epoch, number, i + 1)
            first = 0

    def _span(self) -> int:
        """Examples in a window: whole batches where these have a fixed size."""
        window, size = int(self.batching.window or 1), self.batching.size
        if self.batching.max_frames is None and size:
            return -(-window // size) * size
        return window

    def _windows(self) -> int:
        return -(-self.order.examples // self._span())

    def _window(self, epoch: int, number: int) -> list[Numbers]:
        """The batches of a window: its examples by length, cut, and the batches mixed."""
        first = number * self._span()
        places = np.arange(first, min(first + self._span(), self.order.examples))
        size, budget = self.batching.size, self.batching.max_frames
        if self.batching.drop_last and budget is None and size:
            places = places[: len(places) // size * size]
        examples = self.order.at(epoch, places)
        lengths = self.lengths(examples)
        by_length = np.argsort(lengths, kind="stable")
        edges = _edges(lengths[by_length].tolist(), size, budget)
        batches = np.split(examples[by_length], edges)
        if self.order.shuffle == "none" or not len(places):
            return batches if len(places) else []
        mix = Permutation(len(batches), (self.order.seed, epoch, 4, number))
        return [batches[i] for i in mix(np.arange(len(batches))).tolist()]


def made_from(batching: Batching, order: Order, data: str) -> dict[str, Any]:
    """What the batches of an epoch depend on, by the names that users know."""
    values = asdict(batching) | asdict(order) | {"data": data}
    return {SHOWN.get(name, name): value for name, value in values.items()}


def saved(place: Place, source: Mapping[str, Any]) -> dict[str, Any]:
    """A place as plain values, with all that its meaning depends on."""
    return place._asdict() | {"made_from": dict(source)}


def restored(state: Any, expected: Mapping[str, Any]) -> Place:
    """The place of a saved state, which must be made from what is expected.

    Raises:
        UsageError: the state is none, or means other batches.
    """
    source = state.get("made_from") if isinstance(state, dict) else None
    if not isinstance(source, dict):
        raise UsageError(f"the state of a loader: expected what it was made from, got {state!r}")
    if source.keys() != expected.keys():  # a stream counts the batches of a rank, not of all
        raise UsageError(
            f"the state of a loader: expected one made from {', '.join(expected)}, got "
            f"{', '.join(map(str, source))}; go on with what saved it: make_loader or stream"
        )
    for name, value in expected.items():
        if source[name] != value:
            raise UsageError(
                f"{name}={value}: the state was saved with {name}={source[name]}, "
                "and means other batches; take that, or begin the epoch anew"
            )
    found = [state.get(name) for name in Place._fields]
    if any(not isinstance(n, int) or isinstance(n, bool) or n < 0 for n in found):
        raise UsageError(f"the state of a loader: expected epoch, window, batch, got {state!r}")
    return Place(*found)


def places_in(batches: Numbers, size: int, examples: int) -> tuple[Numbers, Numbers]:
    """The places of batches of a fixed size, one batch behind the other, and how many each has."""
    starts = batches * size
    sizes = np.minimum(starts + size, examples) - starts
    return np.repeat(starts - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum()), sizes


def _edges(lengths: list[int], size: int | None, budget: int | None) -> list[int]:
    """Where ascending lengths are cut into batches; both ends are left out."""
    edges, begin, total = [], 0, len(lengths)
    while begin < total:
        most = total if size is None else min(begin + size, total)
        end = most
        if budget is not None:
            candidates = range(begin + 1, most + 1)
            fits = bisect_right(
                candidates, budget, key=lambda end: (end - begin) * lengths[end - 1]
            )
            end = begin + max(fits, 1)
        edges.append(end)
        begin = end
    return edges[:-1]
