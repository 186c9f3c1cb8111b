"""Samples → features: frozen dataclasses, each a kind in a named front end.

A kind has a ``kind`` name and a ``version``; its fields are every parameter that decides its
values. ``apply`` takes a batch of equally long clips, ``shape`` tells the result's shape in
advance, ``dtype`` and ``scale`` how it is stored. A new kind is one class and one line in
``KINDS``.
"""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy.typing as npt

from pipeline.errors import FeatureError, UsageError, unknown_name
from pipeline.features.plain import Pixels, Tokens, Waveform
from pipeline.features.spectral import LogMel, Mfcc, Spectrogram

__all__ = ["LogMel", "Mfcc", "Pixels", "Spectrogram", "Tokens", "Waveform"]


class Feature(Protocol):
    """What every kind can do."""

    kind: ClassVar[str]
    version: ClassVar[int]

    @property
    def dtype(self) -> str:
        """The NumPy name of the stored type."""
        ...

    @property
    def scale(self) -> float:
        """What the loader multiplies stored integers with."""
        ...

    def shape(self, n_samples: int | None) -> tuple[int | None, ...]:
        """The shape of one example's features; ``None`` where the length is open."""
        ...

    def apply(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(batch, …) examples of one shape → (batch, …) features of ``dtype``."""
        ...


KINDS: dict[str, type[Any]] = {
    kind.kind: kind for kind in (Mfcc, LogMel, Spectrogram, Waveform, Pixels, Tokens)
}


def parse(text: str, sample_rate: int | None) -> Feature:
    """Read ``KIND[@FRONT_END][:key=value,…]``, as ``mfcc@torchaudio:n_mels=40,n_mfcc=13``.

    Starts from the kind's usual definition at ``sample_rate`` (in Hz; ``None`` for data that is
    not audio).

    Raises:
        UsageError: for an unknown kind or key, or a value of the wrong type.
        FeatureError: for values that make no sense.
    """
    head, _, tail = text.partition(":")
    name, _, front_end = head.partition("@")
    if name not in KINDS:
        raise unknown_name("feature", name, KINDS)
    kind = KINDS[name]
    options = parse_options(tail, kind, f"features {name}", fixed=("sample_rate",))
    if front_end:
        options["front_end"] = front_end
        if "front_end" not in typing.get_type_hints(kind):
            raise UsageError(f"features {text!r}: {name} has no front ends; write {name}")
    if "sample_rate" not in typing.get_type_hints(kind):
        return typing.cast(Feature, kind(**options))
    if sample_rate is None:
        raise FeatureError(f"features {name}: needs audio, but this recipe's data is not audio")
    return typing.cast(Feature, dataclasses.replace(kind.at(sample_rate), **options))


def parse_options(
    text: str, kind: type[Any], where: str, fixed: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Read ``key=value,…`` by a dataclass's field types; ``none`` where ``None`` is allowed."""
    hints = {
        field.name: typing.get_type_hints(kind)[field.name]
        for field in dataclasses.fields(kind)
        if field.name not in fixed
    }
    options = {}
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if key not in hints:
            raise unknown_name(f"option of {where}", key, hints)
        options[key] = _value(value if equals else "", hints[key], f"{where}: {key}")
    return options


def _value(text: str, hint: Any, where: str) -> Any:
    """One option's text as the field's type."""
    union = isinstance(hint, types.UnionType)
    allowed = typing.get_args(hint) if union else (hint,)
    if text == "none" and type(None) in allowed:
        return None
    wanted = next(kind for kind in allowed if kind is not type(None))
    try:
        if wanted is bool:
            return {"true": True, "false": False}[text]
        return wanted(text)
    except (ValueError, KeyError):
        names = " or ".join("none" if k is type(None) else k.__name__ for k in allowed)
        raise UsageError(f"{where}: expected {names}, got {text!r}") from None


def to_dict(feature: Feature) -> dict[str, Any]:
    """A feature as plain values: kind, version and every parameter."""
    fields = dataclasses.asdict(typing.cast(Any, feature))
    return {"kind": feature.kind, "version": feature.version, **fields}


def from_dict(values: Mapping[str, Any]) -> Feature:
    """The feature that ``to_dict`` described.

    Raises:
        FeatureError: when the kind is unknown or of another version.
    """
    rest = dict(values)
    kind, version = KINDS.get(rest.pop("kind", "")), rest.pop("version", None)
    if kind is None or kind.version != version:
        got = f"{values.get('kind')!r} version {version}"
        raise FeatureError(f"feature {got}: this version of shardwell does not know it")
    try:
        return typing.cast(Feature, kind(**rest))
    except TypeError as error:
        raise FeatureError(f"feature {kind.kind}: {error}") from None
