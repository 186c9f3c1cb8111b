"""The parameters of a protocol, as a person changes them."""

import inspect
import math
from collections.abc import Mapping

from pipeline.errors import RecipeError, UsageError, unknown_name
from pipeline.manifest import Param, Protocol
from pipeline.recipe import Recipe


def changed_params(given: str | Mapping[str, Param], protocol: Protocol) -> dict[str, Param]:
    """The changed parameters; ``key=value,…`` is read by the types of the protocol's own."""
    if isinstance(given, str):
        items = [item.partition("=") for item in given.split(",") if item]
        given = {key: _param(protocol, key, value, bool(is_)) for key, is_, value in items}
    for key in given:
        if key not in protocol.params:
            raise unknown_name(f"parameter of protocol {protocol.name}", key, protocol.params)
    return dict(given)


def check_params(recipe: Recipe, params: Mapping[str, Param]) -> None:
    """Check the parameters now, before any download.

    Raises:
        UsageError: one is infinite or NaN, which no ``dataset.json`` can hold.
        RecipeError: ``examples`` can't take them.
    """
    for key, value in params.items():
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                raise UsageError(f"parameter {key}: expected a finite number, got {number}")
    try:
        inspect.signature(recipe.examples).bind(None, **params)
    except TypeError as error:
        raise RecipeError(
            f"recipe {recipe.name}: the protocol's params do not fit its examples(): {error}"
        ) from None


def _param(protocol: Protocol, key: str, text: str, has_value: bool) -> Param:
    if key not in protocol.params and not has_value:
        raise UsageError(
            f"params: expected key=value,…, got {key!r}; a list is joined by +, as words=yes+no"
        )
    if key not in protocol.params:
        raise unknown_name(f"parameter of protocol {protocol.name}", key, protocol.params)
    own = protocol.params[key]
    try:
        if not has_value:
            raise ValueError
        return _like(own, text)
    except (ValueError, KeyError):
        raise UsageError(
            f"parameter {key}: expected one like {str(own).lower()}, got {text!r}"
        ) from None


def _like(own: Param, text: str) -> Param:
    """A text as a value of another value's type."""
    if isinstance(own, bool):
        return {"true": True, "false": False}[text.lower()]
    if isinstance(own, list):
        kind = type(own[0]) if own else str
        return [kind(part) for part in text.split("+") if part]
    return type(own)(text)
