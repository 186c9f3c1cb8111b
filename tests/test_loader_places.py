"""Where a loader goes on: after a failed batch, and only from states that mean the same batches."""

import json
import re
from typing import Any

import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.loader import make_loader, open_dataset


def keys(loader: Any) -> list[list[str]]:
    return [batch["key"] for batch in loader]


@pytest.mark.parametrize("key", ["examples", "max_frames", None])
def test_a_state_made_from_more_or_less_is_refused(digits_dataset: Any, key: str | None) -> None:
    """A value of None that is absent means nothing either."""
    loader = make_loader(open_dataset(digits_dataset)["train"], 64)
    saved = loader.state_dict()
    made_from = {name: value for name, value in saved["made_from"].items() if name != key}
    with pytest.raises(UsageError, match="go on with what saved it: make_loader or stream"):
        loader.load_state_dict(
            saved | {"made_from": made_from if key else made_from | {"group": 4}}
        )


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_who_goes_on_after_a_failed_batch_saves_the_right_place(
    digits_dataset: Any, workers: int
) -> None:
    split = open_dataset(digits_dataset, key=True)["train"]

    def loader(transform: Any = None) -> Any:
        return make_loader(split, 30, num_workers=workers, transform=transform)

    def third_fails(batch: Any) -> Any:
        if batch["key"] == split.batch(range(60, 90))["key"]:
            raise ValueError("no batch")
        return batch

    first = loader(third_fails)
    batches = iter(first)
    seen = [next(batches)["key"], next(batches)["key"]]
    with pytest.raises(ValueError, match="no batch"):
        next(batches)
    seen += [next(batches)["key"], next(batches)["key"]]
    again = loader()
    again.load_state_dict(first.state_dict())
    wanted = keys(loader())
    assert [*seen, *keys(again)] == wanted[:2] + wanted[3:]


NUMBERS = {
    "seed": "seed={}: expected 0 to",
    "batch_size": "batch_size={}: expected a whole number, at least 1",
    "window": "window={}: expected a whole number, at least 1",
    "max_frames": "max_frames={}: expected a whole number, at least 1",
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_may_be_of_numpy(digits_dataset: Any, name: str) -> None:
    split = open_dataset(digits_dataset, key=True)["train"]

    def loader(kind: Any) -> Any:
        return make_loader(split, **({"batch_size": 50, "shuffle": True} | {name: kind(30)}))

    ours, theirs = loader(int), loader(np.int64)
    assert keys(theirs) == keys(ours)
    state = json.dumps(theirs.state_dict())
    assert state == json.dumps(ours.state_dict())
    theirs.set_epoch(np.int64(0))
    assert keys(theirs) == keys(loader(int))


@pytest.mark.parametrize("value", [1.5, "1", np.float64(2), -1])
@pytest.mark.parametrize("name", NUMBERS)
def test_what_is_no_number_is_one_line(digits_dataset: Any, name: str, value: Any) -> None:
    split = open_dataset(digits_dataset)["train"]
    message = re.escape(NUMBERS[name].format(repr(value)))
    with pytest.raises(UsageError, match=message) as caught:
        make_loader(split, **({"batch_size": 50} | {name: value}))
    assert "\n" not in str(caught.value)


def test_a_seed_of_none_and_half_a_rank(digits_dataset: Any) -> None:
    split = open_dataset(digits_dataset)["train"]
    with pytest.raises(UsageError, match="seed=None: expected 0 to"):
        make_loader(split, 50, seed=None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"rank=0\.5: expected a whole number"):
        make_loader(split, 50, rank=0.5, world_size=2)  # type: ignore[arg-type]
