"""Samples → features: frozen dataclasses, each a kind in a named front end.

A kind has a ``kind`` name and a ``version``; its fields are every parameter that decides its
values. ``apply`` takes a batch of equally long clips, ``shape`` tells the result's shape in
advance, ``dtype`` and ``step`` how it is stored. A new kind is one class and one line in
``KINDS``.
"""

import typing
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

import numpy.typing as npt

from pipeline.errors import FeatureError, UsageError, unknown_name
from pipeline.features.options import canonical, flat, from_flat, options_of, parse_options
from pipeline.features.plain import Pixels, Tokens, Vector, Waveform
from pipeline.features.spectral import LogMel, Mfcc, Spectrogram

__all__ = [
    "KINDS",
    "Feature",
    "LogMel",
    "Mfcc",
    "Pixels",
    "Spectrogram",
    "Tokens",
    "Vector",
    "Waveform",
    "canonical",
    "from_dict",
    "parse",
    "parse_options",
    "to_dict",
]


class Feature(Protocol):
    """What every kind can do."""

    kind: ClassVar[str]
    version: ClassVar[int]

    @property
    def dtype(self) -> str:
        """The NumPy name of the stored type."""
        ...

    @property
    def step(self) -> float:
        """What a stored 1 stands for: the loader multiplies integers with it."""
        ...

    @property
    def bins(self) -> int:
        """How many means and variances a dataset of it has: one per column, one, or none."""
        ...

    def shape(self, n_samples: int | None) -> tuple[int | None, ...]:
        """The shape of one example's features; ``None`` where the length is open."""
        ...

    def apply(self, batch: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(batch, …) examples of one shape → (batch, …) features of ``dtype``."""
        ...


KINDS: dict[str, type[Any]] = {
    kind.kind: kind for kind in (Mfcc, LogMel, Spectrogram, Waveform, Pixels, Vector, Tokens)
}


def parse(text: str, sample_rate: int | None) -> Feature:
    """Read ``KIND[@FRONT_END][:key=value,…]``, as ``mfcc@kaldi:n_mels=40,n_mfcc=13``.

    Starts from the kind's definition at ``sample_rate`` (in Hz; ``None`` for data that is not
    audio).

    Raises:
        UsageError: for an unknown kind, front end or key, or a value of the wrong type.
        FeatureError: for values that make no sense.
    """
    head, _, tail = text.partition(":")
    name, _, front_end = head.partition("@")
    if name not in KINDS:
        raise unknown_name("feature", name, KINDS)
    kind = KINDS[name]
    known = options_of(kind)
    if front_end and "front_end" not in known:
        raise UsageError(f"features {text!r}: {name} has no front ends; write {name}")
    options = parse_options(tail, kind, f"features {name}", fixed=("sample_rate", "front_end"))
    if front_end:
        options["front_end"] = front_end
    try:
        if "sample_rate" not in known:
            return typing.cast(Feature, kind(**options))
        if sample_rate is None:
            raise FeatureError("needs audio, but this recipe's data is not audio")
        return typing.cast(Feature, kind.at(sample_rate, **options))
    except FeatureError as error:
        raise FeatureError(f"features {name}: {error}") from None


def to_dict(feature: Feature) -> dict[str, Any]:
    """A feature as plain values: kind, version and every parameter by its name."""
    return {"kind": feature.kind, "version": feature.version, **flat(feature)}


def from_dict(values: Mapping[str, Any]) -> Feature:
    """The feature that ``to_dict`` described.

    Raises:
        FeatureError: the kind is unknown or of another version, or the parameters are not its own.
    """
    rest = dict(values)
    name, version = rest.pop("kind", None), rest.pop("version", None)
    kind = KINDS.get(str(name))
    if kind is None or kind.version != version:
        got = f"{name!r} version {version}"
        raise FeatureError(f"feature {got}: this version of shardwell does not know it")
    try:
        return typing.cast(Feature, from_flat(kind, rest))
    except (TypeError, UsageError) as error:
        raise FeatureError(f"feature {name}: {error}") from None
