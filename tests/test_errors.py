"""The tree of errors."""

import pickle
import re

import pytest

from pipeline import errors


def classes() -> list[type[errors.ShardwellError]]:
    found = [v for v in vars(errors).values() if isinstance(v, type)]
    return [v for v in found if issubclass(v, errors.ShardwellError)]


def test_the_drawing_shows_every_class() -> None:
    drawn = set(re.findall(r"\b\w+Error\b", errors.__doc__ or ""))
    assert drawn == {c.__name__ for c in classes()}


@pytest.mark.parametrize("kind", classes())
def test_errors_survive_the_trip_between_processes(kind: type[errors.ShardwellError]) -> None:
    back = pickle.loads(pickle.dumps(kind("where: expected, got")))
    assert type(back) is kind
    assert str(back) == "where: expected, got"


def test_unknown_names_list_the_nearest_first() -> None:
    error = errors.unknown_name("recipe", "speech", ["mnist", "speech_commands", "digit_sum"])
    assert str(error).startswith("unknown recipe 'speech': expected one of speech_commands, ")
    assert "mnist" in str(error)
    assert "(none known)" in str(errors.unknown_name("model", "x", []))
