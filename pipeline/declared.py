"""What a ``dataset.json`` says, checked value by value: it may be damaged, or a stranger's.

Whoever reads one later takes its values as they are, so all that is read is checked here. A check
that fails raises ValueError, or what Python itself says of a value of another type.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.characters import Alphabet
from pipeline.features import Feature
from pipeline.shard import LABEL_ARROW_TYPES, Columns

FINDING = {
    "key": str,
    "split": str,
    "source": str,
    "offset": int,
    "size": int,
    "reason": str,
    "left_out": bool,
}
LARGEST = float(np.finfo(np.float32).max)  # what is served is float32


def expect(holds: bool, otherwise: str) -> None:
    """Raise ValueError unless it holds."""
    if not holds:
        raise ValueError(otherwise)


def is_count(value: Any) -> bool:
    """Whether a value is a number of rows or bytes."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 48


def check_tables(info: Mapping[str, Any]) -> None:
    """The entries that people read, and those that readers take names from, are tables."""
    for name in ("recipe", "protocol", "statistics", "hints", "corpus", "versions"):
        expect(isinstance(info[name], dict), f"{name} is no table")
    optional = {
        "sources": info.get("sources", {}),
        "params of the protocol": info["protocol"].get("params", {}),
        "audio": info.get("audio") or {},  # null for data that is not audio
    }
    for name, value in optional.items():
        expect(isinstance(value, dict), f"{name}: no table")


def check_findings(findings: Any) -> None:
    """Each finding names a clip, its place and the reason, as the build writes it."""
    expect(isinstance(findings, list), "findings is no list")
    for finding in findings:
        expect(isinstance(finding, dict), f"a finding is no table: {finding!r:.80}")
        expect(finding.keys() >= FINDING.keys(), "findings without key, split, reason and place")
        for name, kind in FINDING.items():
            value = finding[name]
            held = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
            expect(held, f"{name} of a finding: expected {kind.__name__}, got {value!r:.80}")


def check_columns(columns: Columns, feature: Feature) -> None:
    """The columns must be what the feature gives, with labels of known types."""
    for name, kind in columns.labels.items():
        expect(kind in LABEL_ARROW_TYPES, f"label {name}: unknown type {kind!r}")
    expect(columns.dtype == feature.dtype, f"dtype {columns.dtype!r}, not {feature.dtype!r}")
    own = feature.shape(None)
    expect(len(columns.shape) == len(own), f"shape {columns.shape}")
    for got, wanted in zip(columns.shape, own, strict=True):
        small = got is None or (is_count(got) and got < 1 << 31)
        expect(small and wanted in (None, got), f"shape {columns.shape}")


def check_classes(labels: Mapping[str, str], classes: Any) -> None:
    """A list of names for every label that is a class, and for no other."""
    expect(isinstance(classes, dict), "classes is no table")
    wanted = {name for name, kind in labels.items() if kind == "class"}
    lacking = ", ".join(sorted(wanted - set(classes)))
    expect(not lacking, f"no classes of {lacking}")
    expect(set(classes) == wanted, "classes of labels that it has not")
    for label, names in classes.items():
        texts = isinstance(names, list) and all(isinstance(name, str) for name in names)
        expect(texts, f"classes of {label}: expected a list of texts, got {names!r:.80}")


def check_alphabets(labels: Mapping[str, str], alphabets: Mapping[str, Alphabet]) -> None:
    """An alphabet for every label that is characters, and for no other."""
    spelt = {name for name, kind in labels.items() if kind == "characters"}
    expect(set(alphabets) == spelt, "alphabets of other labels than those of characters")


def check_statistics(statistics: Mapping[str, Any], feature: Feature) -> None:
    """Mean and standard deviation: one finite number per bin, or none of both."""
    absent = [statistics[name] is None for name in ("mean", "std")]
    expect(absent[0] == absent[1], "statistics: one of mean and std without the other")
    for name in ("mean", "std"):
        values = statistics[name]
        if values is not None:
            expect(isinstance(values, list), f"statistics: {name} is no list")
            expect(len(values) == feature.bins, f"statistics: {len(values)} of {name}")
            # Not isfinite: JSON's whole numbers may be larger than any float.
            finite = all(_is_number(v) and abs(v) <= LARGEST for v in values)
            expect(finite, f"statistics: {name}: expected finite numbers")


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool)
