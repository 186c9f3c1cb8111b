"""Options of nested dataclasses, addressed by the names of their innermost fields.

``with_options(LogMel(...), {"n_mels": 40})`` changes ``bank.n_mels``: names are unique within a
kind, so no path is needed, on the command line neither.
"""

import contextlib
import dataclasses
import numbers
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.errors import FeatureError, UsageError, unknown_name

WRITTEN = {  # type → what a person writes
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    type(None): "none",
}


def check_choices(value: Any, known: Mapping[str, Sequence[Any]]) -> None:
    """Raise FeatureError unless every named field holds one of its known values."""
    for name, choices in known.items():
        if getattr(value, name) not in choices:
            names = ", ".join(map(str, choices))
            raise FeatureError(f"{name}={getattr(value, name)}: expected one of {names}")


def options_of(kind: type[Any]) -> dict[str, Any]:
    """Option name → type, of a dataclass and those inside it."""
    hints = typing.get_type_hints(kind)
    options: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        options |= (
            options_of(typing.cast(type, hint))
            if dataclasses.is_dataclass(hint)
            else {field.name: hint}
        )
    return options


def with_options(value: Any, options: Mapping[str, Any]) -> Any:
    """A copy of a dataclass with some options changed, wherever inside it they are.

    Raises:
        UnknownNameError: an option that it does not have.
    """
    known = options_of(type(value))
    for name in options:
        if name not in known:
            raise unknown_name(
                f"option of {getattr(value, 'kind', type(value).__name__)}", name, known
            )
    changes = {}
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        if dataclasses.is_dataclass(inner):
            changes[field.name] = with_own(inner, options)
        elif field.name in options:
            changes[field.name] = _typed(options[field.name], known[field.name], field.name)
    return dataclasses.replace(value, **changes)


def with_own(value: Any, options: Mapping[str, Any]) -> Any:
    """A dataclass with those of the options that it has."""
    known = options_of(type(value))
    return with_options(value, {name: v for name, v in options.items() if name in known})


def parse_options(
    text: str, kind: type[Any], where: str, fixed: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Read ``key=value,…`` by the field types; ``none`` where ``None`` is allowed.

    Options named in ``fixed`` can't be set.

    Raises:
        UsageError: an unknown key, or a value of the wrong type.
    """
    known = {name: hint for name, hint in options_of(kind).items() if name not in fixed}
    options = {}
    for item in filter(None, text.split(",")):
        name, _, value = item.partition("=")
        if name not in known:
            raise unknown_name(f"option of {where}", name, known)
        options[name] = _value(value, known[name], f"{where}: {name}")
    return options


def _value(text: str, hint: Any, where: str) -> Any:
    """One option's text as the field's type."""
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if text == "none" and type(None) in allowed:
        return None
    wanted = next(kind for kind in allowed if kind is not type(None))
    try:
        if wanted is bool:
            return {"true": True, "false": False}[text.lower()]
        return wanted(text)
    except (ValueError, KeyError):
        raise UsageError(f"{where}: expected {_named(allowed)}, got {text!r}") from None


def flat(value: Any) -> dict[str, Any]:
    """A dataclass's options by name, without the nesting."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        inner = getattr(value, field.name)
        found |= flat(inner) if dataclasses.is_dataclass(inner) else {field.name: inner}
    return found


def from_flat(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """The dataclass whose ``flat`` this is.

    Raises:
        TypeError: a field is missing or unknown, or a value has the wrong type.
    """
    hints = typing.get_type_hints(kind)
    known = options_of(kind)
    if set(values) != set(known):
        raise TypeError(f"expected the fields {', '.join(known)}, got {', '.join(values)}")
    made = {}
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        if dataclasses.is_dataclass(hint):
            own = {name: values[name] for name in options_of(typing.cast(type, hint))}
            made[field.name] = from_flat(typing.cast(type, hint), own)
        else:
            made[field.name] = _typed(values[field.name], hint, field.name)
    return kind(**made)


def _typed(value: Any, hint: Any, name: str) -> Any:
    """A value as exactly the field's type, so that equal definitions have one fingerprint.

    Whole numbers become floats where floats are wanted (JSON and people write 80 for 80.0), NumPy's
    numbers Python's.

    Raises:
        UsageError: a value of another type.
    """
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if type(value) in allowed:
        return value
    if not isinstance(value, bool):
        if float in allowed and isinstance(value, numbers.Real):
            with contextlib.suppress(OverflowError):
                return float(value)
        if int in allowed and isinstance(value, numbers.Integral):
            return int(value)
    raise UsageError(f"{name}={value!r}: expected {_named(allowed)}")


def _named(kinds: tuple[Any, ...]) -> str:
    """What a person is to write for values of these types."""
    return " or ".join(WRITTEN[kind] for kind in kinds)


def canonical(value: Any) -> Any:
    """The same dataclass with every option of exactly its field's type."""
    return from_flat(type(value), flat(value))
