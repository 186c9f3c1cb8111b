"""Where a loader goes on: after a failed batch, and only from states that mean the same batches."""

from typing import Any

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
