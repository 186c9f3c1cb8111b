"""Labels: from examples to the plan's columns, and from those to what a shard stores."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import pyarrow as pa

from pipeline.characters import Alphabet, alphabet_of
from pipeline.columns import with_nulls
from pipeline.errors import RecipeError, UsageError
from pipeline.manifest import NOISE
from pipeline.records import Example
from pipeline.shard import label_array


def stored_as(chunk: Sequence[Example], name: str, kind: str) -> str | None:
    """How a label's column is stored, which of a class its first value tells; None where none does.

    Names are made of them later, and token ids of texts.
    """
    if kind != "class":
        return "text" if kind == "characters" else kind
    values = (example.labels.get(name) for example in chunk)
    first = next((value for value in values if value is not None), None)
    if first is None:
        return None
    return "text" if isinstance(first, str) else "int"


def label_column(chunk: Sequence[Example], name: str, kind: str, stored: str | None) -> pa.Array:
    """One label of some examples, ``stored_as`` it says; null where an example has no class.

    Raises:
        RecipeError: an example has no such label, or a value of another type.
    """
    values = [_label(example, name, kind, stored or "int") for example in chunk]
    if None not in values:
        return label_array(values, stored or "int")
    if stored is None:
        return pa.nulls(len(values))
    none = "" if stored == "text" else 0
    filled = [none if value is None else value for value in values]
    return with_nulls(label_array(filled, stored), [value is None for value in values])


def label_names(
    table: pa.Table, train: pa.Table, labels: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """The sorted names of each class label in a plan; of a label of characters, those of train."""
    names = {name: _class_names(table, name) for name, kind in labels.items() if kind == "class"}
    return names | {n: _characters(train, n) for n, kind in labels.items() if kind == "characters"}


def stored_values(kind: str, values: list[Any], names: tuple[str, ...] | None) -> list[Any]:
    """A label's stored values: class names become indices, no class -1, characters token ids."""
    if names is None:
        return values
    if kind == "characters":
        alphabet = Alphabet("".join(names))
        return [alphabet.encode(value) for value in values]
    number = {text: i for i, text in enumerate(names)}
    return [-1 if value is None else number[str(value)] for value in values]


def _label(example: Example, name: str, kind: str, stored: str) -> Any:
    if name not in example.labels:
        raise RecipeError(f"example {example.key}: the recipe declares a label {name}, got none")
    value = example.labels[name]
    if value is None and example.split == NOISE and kind == "class":
        return None
    if isinstance(value, Integral) and not isinstance(value, bool):
        value = int(value)  # NumPy's, too
    wanted = {"text": str, "float": float}.get(stored, int)
    accepted = (float, int) if wanted is float else wanted
    if isinstance(value, bool) or not isinstance(value, accepted):
        whole = " (a class is a text or a whole number)" if kind == "class" else ""
        raise RecipeError(
            f"example {example.key}: label {name}: expected {wanted.__name__}, got {value!r}{whole}"
        )
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise RecipeError(f"example {example.key}: label {name}: {value} takes more than 64 bits")
    return value


def _class_names(table: pa.Table, label: str) -> tuple[str, ...]:
    return tuple(str(v) for v in sorted(table.column(label).unique().drop_null().to_pylist()))


def _characters(train: pa.Table, label: str) -> tuple[str, ...]:
    """The characters of a label's texts, in order.

    Raises:
        RecipeError: there are none.
    """
    try:
        return tuple(alphabet_of(train.column(label).to_pylist()).characters)
    except UsageError:
        raise RecipeError(
            f"label {label}: expected characters in train's texts, got none"
        ) from None
