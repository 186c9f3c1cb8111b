"""What a filter wants: the values of a column that were named, as an array of its type."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import UsageError, unknown_name

Column = npt.NDArray[Any]


def named(names: Sequence[str], values: Column) -> Column:
    """Class numbers as names; "" for what has no class."""
    return np.array([*names, ""], np.dtypes.StringDType())[values]


def wanted_values(
    column: str, keep: Collection[Any], names: Sequence[str] | None, dtype: np.dtype[Any]
) -> Column:
    """The wanted values as an array of the column's type; a class may be given by its number.

    Raises:
        UnknownNameError: there is no such class.
        UsageError: they are no list of texts or numbers, as the column's are.
    """
    if isinstance(keep, str) or not isinstance(keep, Iterable):
        raise _unwanted(column, names, dtype, keep)
    values = [_value(column, value, names, dtype) for value in keep]
    try:
        return np.array(values, dtype)
    except OverflowError:
        message = f"filter by {column}: expected numbers of 64 bits, got a larger one"
        raise UsageError(message) from None


def _value(column: str, value: Any, names: Sequence[str] | None, dtype: np.dtype[Any]) -> Any:
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if names:
        found = names[int(value)] if whole and 0 <= value < len(names) else value
        if found not in names:
            raise unknown_name(f"class of {column}", str(value), names)
        return found
    if dtype.kind == "T":
        if isinstance(value, str):
            return value
    elif whole:
        return int(value)  # NumPy's own would wrap where it is too large
    elif dtype.kind == "f" and isinstance(value, float | np.floating):
        return value
    raise _unwanted(column, names, dtype, value)


def _unwanted(
    column: str, names: Sequence[str] | None, dtype: np.dtype[Any], got: object
) -> UsageError:
    kind = "texts" if names or dtype.kind == "T" else "numbers"
    return UsageError(f"filter by {column}: expected a list of {kind}, got {str(got)!r}")
