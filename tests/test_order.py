"""The order of examples: a permutation by key, shared out to ranks, gone on with exactly."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.loader import make_loader, open_dataset
from pipeline.loader.order import Order, Ranks, index_batches
from pipeline.loader.permutation import SMALL, Permutation


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


def served(order: Order, world: int, drop: bool, epoch: int = 0, first: int = 0) -> list[Any]:
    """The batches of all ranks, by turns."""
    ranks = [Ranks(rank, world, drop) for rank in range(world)]
    streams = [list(index_batches(order, r, epoch, first)) for r in ranks]
    assert len({len(stream) for stream in streams}) == 1
    return [batch.tolist() for turn in zip(*streams, strict=True) for batch in turn]


ORDERS = st.builds(
    Order,
    examples=st.integers(1, 400),
    batch_size=st.integers(1, 50),
    shuffle=st.booleans(),
    seed=st.integers(0, 9),
    drop_last=st.booleans(),
)


@given(order=ORDERS, world=st.integers(1, 7), epoch=st.integers(0, 3))
def test_ranks_share_an_epoch_out(order: Order, world: int, epoch: int) -> None:
    whole = served(order, 1, True, epoch)
    assert len(whole) == order.batches
    alone = [i for batch in whole for i in batch]
    assert len(set(alone)) == len(alone)
    if not order.drop_last:
        assert sorted(alone) == list(range(order.examples))
    dropping, padding = served(order, world, True, epoch), served(order, world, False, epoch)
    assert dropping == whole[: len(whole) // world * world]
    assert padding[: len(whole)] == whole
    assert all(batch in whole for batch in padding)
    assert len(padding) - len(whole) < world


@given(order=ORDERS, before=st.integers(1, 5), after=st.integers(1, 5), data=st.data())
def test_another_number_of_ranks_goes_on_with_nothing_lost_or_twice(
    order: Order, before: int, after: int, data: st.DataObject
) -> None:
    whole = served(order, 1, True)
    turns = data.draw(st.integers(0, len(whole) // before))
    first = served(order, before, False)[: turns * before]
    rest = served(order, after, False, first=turns * before)
    assert (first + rest)[: len(whole)] == whole


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
    assert state == {"epoch": 1, "batches": stop, "order": state["order"]}
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
        assert loader.state_dict()["batches"] == batches
    next(stream)  # the last one: whoever saves now need not have seen the end
    state = loader.state_dict()
    assert (state["epoch"], state["batches"]) == (1, 0)
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
        loader.load_state_dict(saved | {"order": saved["order"] | state})
    for broken in ({}, {"order": 3}, saved | {"epoch": -1}, saved | {"batches": "x"}):
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
