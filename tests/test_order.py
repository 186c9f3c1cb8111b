"""The order of examples: a permutation by key, shared out to ranks, gone on with exactly."""

import math
from collections import Counter
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.loader import make_loader, open_dataset
from pipeline.loader.order import BLOCK, BLOCKS, SHUFFLES, Order
from pipeline.loader.permutation import SMALL, Numbers, Permutation
from pipeline.loader.turns import Batching, Place, Ranks, Turns


@given(n=st.integers(1, 3 * SMALL), key=st.tuples(st.integers(0, 1 << 62), st.integers(0, 1000)))
def test_every_place_has_a_number_of_its_own(n: int, key: tuple[int, int]) -> None:
    numbers = Permutation(n, key)(np.arange(n))
    assert np.array_equal(np.sort(numbers), np.arange(n))


def test_places_are_looked_up_one_by_one_or_together() -> None:
    large = Permutation(10**9, (3, 1))
    places = np.array([0, 1, 10**9 - 1, 12345, 5 * 10**8])
    together = large(places)
    assert [int(large(places[i : i + 1])[0]) for i in range(5)] == together.tolist()
    assert together.min() >= 0
    assert together.max() < 10**9
    assert not np.array_equal(together, Permutation(10**9, (3, 2))(places))


@pytest.mark.parametrize("n", [SMALL, SMALL + 1, 50_000, 1 << 17])
def test_the_order_is_as_mixed_as_a_uniform_one(n: int) -> None:
    """Runs of a label, neighbours that stay neighbours, and drift: five sigma around chance."""
    numbers = Permutation(n, (1, 0))(np.arange(n))
    labels = numbers * 10 // n  # ten labels, stored one after the other, as words are
    same = int(np.count_nonzero(labels[1:] == labels[:-1]))
    assert abs(same - n / 10) < 5 * math.sqrt(n * 0.09)
    near = int(np.count_nonzero(np.abs(np.diff(numbers)) == 1))  # Poisson with mean 2
    assert near < 2 + 5 * math.sqrt(2)
    correlation = np.corrcoef(numbers, np.arange(n))[0, 1]
    assert abs(correlation) < 5 / math.sqrt(n)


def test_all_permutations_of_a_few_are_equally_likely() -> None:
    counts = Counter(tuple(Permutation(4, (k,))(np.arange(4)).tolist()) for k in range(24_000))
    assert len(counts) == math.factorial(4)
    assert sum((c - 1000) ** 2 / 1000 for c in counts.values()) < 60  # chi-square, 23 d.o.f.


def lengths(examples: Numbers) -> Numbers:
    """A length for every example: 10 to 109 frames."""
    return 10 + examples * 37 % 100


def turns(order: Order, batching: Batching, rank: int = 0, world: int = 1) -> Turns:
    return Turns(order, batching, Ranks(rank, world), lengths)


START = Place(0)


def served(
    order: Order, batching: Batching, world: int, place: Place = START, most: int | None = None
) -> tuple[list[Any], Place]:
    """The batches of all ranks by turns, of ``most`` turns, and the place after them."""
    ranks = [turns(order, batching, rank, world) for rank in range(world)]
    streams = [list(islice(r.served(place), most)) for r in ranks]
    assert len({len(stream) for stream in streams}) == 1
    rounds = list(zip(*streams, strict=True))
    assert all(len({after for _, after in turn}) == 1 for turn in rounds)
    after = rounds[-1][0][1] if rounds else place
    return [batch.tolist() for turn in rounds for batch, _ in turn], after


ORDERS = st.builds(
    Order,
    examples=st.integers(1, 900),
    shuffle=st.sampled_from(SHUFFLES),
    seed=st.integers(0, 9),
)
PLAIN = st.builds(Batching, size=st.integers(1, 50), drop_last=st.booleans())
BUCKETED = st.builds(
    Batching,
    size=st.none() | st.integers(1, 50),
    max_frames=st.integers(50, 2000),
    window=st.integers(1, 400),
    drop_last=st.booleans(),
)
SIZED = st.builds(
    Batching, size=st.integers(1, 50), window=st.integers(1, 400), drop_last=st.booleans()
)
BATCHINGS = st.one_of(PLAIN, BUCKETED, SIZED)


def kept_whole(batching: Batching) -> bool:
    """Whether every example of an epoch is served."""
    return batching.max_frames is not None or not batching.drop_last


@given(order=ORDERS, batching=BATCHINGS, world=st.integers(1, 7), epoch=st.integers(0, 3))
def test_ranks_share_an_epoch_out(order: Order, batching: Batching, world: int, epoch: int) -> None:
    place = Place(epoch)
    whole, after = served(order, batching, 1, place)
    assert len(whole) == turns(order, batching).rounds(Place(epoch))
    if whole:
        assert after == Place(epoch + 1)
    alone = [i for batch in whole for i in batch]
    assert len(set(alone)) == len(alone)
    if kept_whole(batching):
        assert sorted(alone) == list(range(order.examples))
    else:
        assert len(alone) == order.examples // int(batching.size or 1) * int(batching.size or 1)
    shared, _ = served(order, batching, world, place)
    assert len(shared) == world * turns(order, batching, 0, world).rounds(Place(epoch))
    if batching.drop_last:
        assert shared == whole[: len(whole) // world * world]
    else:
        assert shared[: len(whole)] == whole
        assert all(batch in whole for batch in shared)
        assert len(shared) - len(whole) < world


@given(order=ORDERS, batching=BATCHINGS)
def test_batches_are_as_large_as_they_may_be(order: Order, batching: Batching) -> None:
    whole, _ = served(order, batching, 1)
    for batch in whole:
        assert len(batch) <= (batching.size or len(batch))
        padded = len(batch) * int(lengths(np.array(batch)).max())
        assert len(batch) == 1 or padded <= (batching.max_frames or padded)
    if batching.window is None:
        assert all(len(batch) == batching.size for batch in whole[:-1])


@given(
    order=ORDERS,
    batching=BATCHINGS,
    before=st.integers(1, 5),
    after=st.integers(1, 5),
    data=st.data(),
)
def test_another_number_of_ranks_goes_on_with_nothing_lost_or_twice(
    order: Order, batching: Batching, before: int, after: int, data: st.DataObject
) -> None:
    whole, _ = served(order, batching, 1)
    rounds = data.draw(st.integers(0, len(whole) // before))
    first, place = served(order, batching, before, Place(0), rounds)
    if place.epoch:  # the epoch is done
        assert first[: len(whole)] == whole or batching.drop_last
        return
    saved = turns(order, batching, 0, before).state(place)
    rest, _ = served(order, batching, after, turns(order, batching, 0, after).place(saved))
    assert whole[: len(first) + len(rest)] == (first + rest)[: len(whole)]
    assert len(first + rest) > len(whole) - (after if batching.drop_last else 1)


def test_blocks_are_mixed_but_stay_together() -> None:
    """Any 8,192 places in a row lie in few blocks; neighbours seldom stay neighbours."""
    n = 100_000
    order = Order(n, "blocks", 3)
    examples = order.at(0, np.arange(n))
    assert np.array_equal(np.sort(examples), np.arange(n))
    span = examples[: BLOCK * BLOCKS]
    begins = np.flatnonzero(np.diff(np.sort(span)) != 1)
    assert len(begins) <= BLOCKS
    assert np.count_nonzero(np.abs(np.diff(examples)) == 1) < n / 100
    assert not np.array_equal(order.at(1, np.arange(n)), examples)
    assert np.array_equal(order.at(0, np.array([5, 70_000, 99_999])), examples[[5, 70_000, 99_999]])


def test_buckets_pad_little() -> None:
    """Lengths as LJSpeech has them, from 100 to 1,000 frames; a random order pads 40 %."""
    rng = np.random.default_rng(0)
    frames = np.clip(rng.normal(560, 190, 13_100), 100, 870).astype(np.int64)

    def padding(batching: Batching) -> float:
        order = Order(len(frames), "examples", 1)
        batches = Turns(order, batching, Ranks(0, 1), lambda i: frames[i]).served(Place(0))
        padded = sum(len(b) * int(frames[b].max()) for b, _ in batches)
        return 1 - int(frames.sum()) / padded

    assert padding(Batching(32)) > 0.3
    assert padding(Batching(32, window=8192)) < 0.02
    assert padding(Batching(None, 20_000, 8192)) < 0.02
    assert padding(Batching(32, window=32 * 20)) < 0.06


def keys(loader: Any, count: int | None = None) -> list[list[str]]:
    """The keys of the next batches."""
    stream = iter(loader)
    return [batch["key"] for batch, _ in zip(stream, range(count or 10**9), strict=False)]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 1, 3])
def test_a_loader_goes_on_exactly_where_it_was(
    digits_dataset: Any, workers: int, stop: int
) -> None:
    split = open_dataset(digits_dataset, key=True)["train"]

    def loader(num_workers: int = 0) -> Any:
        return make_loader(split, 64, shuffle=True, seed=3, num_workers=num_workers)

    undisturbed = loader()
    wanted = [*keys(undisturbed), *keys(undisturbed), *keys(undisturbed)]
    first = loader(num_workers=workers)
    seen, stream = keys(first), iter(first)
    seen += [next(stream)["key"] for _ in range(stop)]
    state = first.state_dict()
    assert state == {"epoch": 1, "window": 0, "batch": stop, "made_from": state["made_from"]}
    for num_workers in (0, 2):
        again = loader(num_workers)
        again.load_state_dict(state)
        assert again.state_dict() == state
        rest = keys(again)
        again.load_state_dict(state)  # twice in a row
        assert keys(again) == rest
        assert [*seen, *rest, *keys(again)] == wanted


def test_the_end_of_an_epoch_is_the_beginning_of_the_next(digits_dataset: Any) -> None:
    split = open_dataset(digits_dataset, key=True)["train"]
    loader = make_loader(split, 100, shuffle=True)
    stream = iter(loader)
    for batches in (1, 2):
        next(stream)
        assert loader.state_dict()["batch"] == batches
    next(stream)  # the last one: whoever saves now need not have seen the end
    state = loader.state_dict()
    assert (state["epoch"], state["batch"]) == (1, 0)
    other = make_loader(split, 100, shuffle=True)
    other.load_state_dict(state)
    assert keys(other) == keys(loader)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"batch_size": 32}, "batch_size=64: the state was saved with batch_size=32"),
        ({"seed": 1}, "seed=0: the state was saved with seed=1"),
        ({"examples": 301}, "examples=300: the state was saved with examples=301"),
    ],
)
def test_another_order_is_refused(digits_dataset: Any, state: dict, message: str) -> None:
    loader = make_loader(open_dataset(digits_dataset)["train"], 64)
    saved = loader.state_dict()
    with pytest.raises(UsageError, match=message):
        loader.load_state_dict(saved | {"made_from": saved["made_from"] | state})
    for broken in ({}, {"made_from": 3}, saved | {"epoch": -1}, saved | {"batch": "x"}):
        with pytest.raises(UsageError, match="the state of a loader"):
            loader.load_state_dict(broken)


def test_ranks_are_given_whole(digits_dataset: Any) -> None:
    split = open_dataset(digits_dataset, key=True)["train"]
    parts = [keys(make_loader(split, 50, rank=rank, world_size=3)) for rank in range(3)]
    seen = [key for turn in zip(*parts, strict=True) for batch in turn for key in batch]
    assert len(seen) == len(set(seen)) == 300
    with pytest.raises(UsageError, match="rank=0, world_size=None: expected both or neither"):
        make_loader(split, 50, rank=0)
    with pytest.raises(UsageError, match=r"rank=3: expected 0 to world_size - 1 = 2"):
        make_loader(split, 50, rank=3, world_size=3)


def test_the_epoch_under_way_is_not_begun_anew(digits_dataset: Any) -> None:
    split = open_dataset(digits_dataset, key=True)["train"]

    def loader() -> Any:
        return make_loader(split, 50, shuffle=True)

    first, again = loader(), loader()
    whole = keys(first)
    again.load_state_dict(loader().state_dict() | {"batch": 2})
    assert len(again) == 4
    again.set_epoch(0)  # as a loop over epochs does
    assert keys(again) == whole[2:]
    again.set_epoch(0)
    assert keys(again) == whole
    again.set_epoch(1)
    assert keys(again) == keys(first)
    for bad in (-1, 1.5, "a"):
        with pytest.raises(UsageError, match="expected a whole number from 0 on"):
            again.set_epoch(bad)


def test_a_state_with_nothing_left_leads_to_the_next_epoch(digits_dataset: Any) -> None:
    split = open_dataset(digits_dataset, key=True)["train"]
    loader = make_loader(split, 50, drop_last=True, rank=0, world_size=4)
    loader.load_state_dict(loader.state_dict() | {"batch": 4})
    assert len(loader) == 0
    assert keys(loader) == []
    assert loader.state_dict()["epoch"] == 1
    assert len(keys(loader)) == 1


PINNED = ([41, 58, 79, 67], [48557, 928150, 924326, 792125], [52265, 78700, 72339, 48083])


def test_orders_stay_what_they_are() -> None:
    """A state saved by one version goes on with another, so the numbers are pinned."""
    places = np.array([0, 1, 2, 99])
    assert Permutation(100, (1, 2))(places).tolist() == PINNED[0]
    assert Permutation(10**6, (1, 2))(places).tolist() == PINNED[1]
    assert Order(100_000, "blocks", 7).at(3, places).tolist() == PINNED[2]


def test_every_epoch_mixes_windows_and_blocks_anew() -> None:
    turns_ = turns(Order(4000, "examples", 1), Batching(10, window=4000))
    longest = [
        [int(lengths(batch).max()) for batch, _ in turns_.served(Place(epoch))] for epoch in (0, 1)
    ]
    assert sorted(longest[0]) == sorted(longest[1])
    assert longest[0] != longest[1]
    last = [Order(1000, "blocks", 1).at(epoch, np.arange(768, 1000)) for epoch in range(4)]
    assert len({int(part.min()) for part in last}) > 1  # not always the same ones come last
