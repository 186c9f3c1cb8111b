"""Which rows a rank streams, batch by batch; without any file."""

from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UsageError
from pipeline.loader.order import Order
from pipeline.loader.stream_turns import GROUP, StreamTurns
from pipeline.loader.turns import Batching, Place, Ranks

SHAPES = st.fixed_dictionaries(
    {
        "rows": st.lists(st.integers(0, 40), min_size=1, max_size=30),
        "size": st.integers(1, 50),
        "shuffle": st.sampled_from(["none", "examples"]),
        "drop_last": st.booleans(),
        "seed": st.integers(0, 9),
    }
)


def ranks_of(shape: dict[str, Any], world: int) -> list[StreamTurns]:
    rows = np.array(shape["rows"], np.int64)
    order = Order(int(rows.sum()), shape["shuffle"], shape["seed"])
    batching = Batching(shape["size"], drop_last=shape["drop_last"])
    return [StreamTurns(order, batching, Ranks(r, world), rows, "x") for r in range(world)]


@given(shape=SHAPES, epoch=st.integers(0, 3), data=st.data())
def test_ranks_share_an_epoch_out(shape: dict[str, Any], epoch: int, data: st.DataObject) -> None:
    total, size = sum(shape["rows"]), shape["size"]
    most = max(sum(n > 0 for n in shape["rows"]), 1)
    ranks = ranks_of(shape, data.draw(st.integers(1, most)))
    served = [[w.rows.tolist() for w, _ in r.served(Place(epoch))] for r in ranks]
    assert {len(batches) for batches in served} == {ranks[0].rounds(Place(epoch))}
    if shape["drop_last"]:
        assert all(len(batch) == size for batches in served for batch in batches)
        seen = list(chain.from_iterable(chain.from_iterable(served)))
        assert len(set(seen)) == len(seen)
        assert set(seen) <= set(range(total))
        assert len(seen) > total - len(ranks) * (size + max(shape["rows"]) * most)
        return
    own = []
    for batches in served:
        first = [b for i, b in enumerate(batches) if b not in batches[:i]]
        assert batches == [first[i % len(first)] for i in range(len(batches))]
        own += chain.from_iterable(first)
    assert sorted(own) == list(range(total))
    if shape["shuffle"] == "none" and len(ranks) == 1:
        assert own == list(range(total))


@given(shape=SHAPES, epoch=st.integers(0, 3), data=st.data())
def test_a_batch_does_not_depend_on_where_one_began(
    shape: dict[str, Any], epoch: int, data: st.DataObject
) -> None:
    (turns,) = ranks_of(shape, 1)
    whole = list(turns.served(Place(epoch)))
    assert not whole or whole[-1][1] == Place(epoch + 1)
    begin = data.draw(st.integers(0, len(whole)))
    place = whole[begin - 1][1] if 0 < begin < len(whole) else Place(epoch, 0, begin)
    rest = list(turns.served(turns.place(turns.state(place))))
    assert [w.rows.tolist() for w, _ in rest] == [w.rows.tolist() for w, _ in whole[begin:]]
    assert [(w.near, after) for w, after in rest] == [(w.near, p) for w, p in whole[begin:]]


def test_rows_of_a_group_are_mixed_and_groups_change() -> None:
    """Neighbours share a shard of four as often as chance has it: five sigma."""
    shape = {"rows": [500] * 40, "size": 100, "shuffle": "examples", "drop_last": False}
    (turns,) = ranks_of(shape | {"seed": 1}, 1)
    served = [w for w, _ in turns.served(Place(0))]
    shards = np.concatenate([w.rows for w in served]) // 500
    same = int(np.count_nonzero(shards[1:] == shards[:-1]))
    assert abs(same - 20_000 / GROUP) < 5 * (20_000 * 0.25 * 0.75) ** 0.5
    groups = [set(shards[i : i + 500 * GROUP].tolist()) for i in range(0, 20_000, 500 * GROUP)]
    assert all(len(group) == GROUP for group in groups)
    other = np.concatenate([w.rows for w, _ in turns.served(Place(1))]) // 500
    assert set(other[: 500 * GROUP].tolist()) not in groups
    drift = np.corrcoef(shards, np.arange(20_000))[0, 1]
    assert abs(drift) < 0.5  # 40 shards in a random order: a sigma of 0.16


def test_the_next_group_is_near() -> None:
    shape = {"rows": [10] * 12, "size": 15, "shuffle": "none", "drop_last": False, "seed": 0}
    (turns,) = ranks_of(shape, 1)
    near = [w.near for w, _ in turns.served(Place(0))]
    assert near[0] == near[1] == tuple(range(8))
    assert near[2] == tuple(range(12))  # rows 30 to 44 lie in two groups
    assert near[3] == near[4] == tuple(range(4, 12))
    assert near[6] == near[7] == tuple(range(8, 12))


def test_more_ranks_than_shards_are_refused() -> None:
    shape = {"rows": [3, 0, 2], "size": 1, "shuffle": "none", "drop_last": True, "seed": 0}
    with pytest.raises(UsageError, match="world_size=3: expected at most 2, the number of sh"):
        ranks_of(shape, 3)
