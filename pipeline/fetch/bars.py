"""Bars, for a person at a terminal."""

from typing import Any

from tqdm import tqdm


def quiet(progress: bool) -> bool | None:
    """Tqdm's ``disable``: bars are for a person at a terminal, never for a log file."""
    return None if progress else True


def byte_bar(what: str, total: int | None, progress: bool, done: int = 0) -> "tqdm[Any]":
    """A bar in bytes, with speed and time left; ``done`` bytes are there already."""
    return tqdm(
        total=total,
        initial=done,
        desc=what,
        unit="B",
        unit_scale=True,
        leave=False,
        disable=quiet(progress),
    )


def spinner(what: str, progress: bool) -> "tqdm[Any]":
    """A line that says what is under way, for work that can't say how far it is."""
    return tqdm(desc=what, bar_format="{desc} …", leave=False, disable=quiet(progress))
