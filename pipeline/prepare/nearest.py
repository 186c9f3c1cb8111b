"""Why no dataset was found: what its declaration has that the nearest one beside it has not."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.dataset import NAME

SHOWN = 5  # differences


def differences(declaration: Mapping[str, Any], beside: Path) -> str | None:
    """What differs from the nearest dataset in ``beside``, in one line; None without any.

    Nearest is the one with the fewest differing values, the first by name among equals. Datasets of
    another kind of feature, or of another protocol, are no near ones: nobody mistakes them.
    """
    wanted = dict(_leaves(json.loads(json.dumps(declaration)), ""))
    found = []
    for path in sorted(beside.glob(f"*/{NAME}")):
        try:
            info = json.loads(path.read_text(encoding="utf-8"))
            had = dict(_leaves({key: info[key] for key in declaration}, ""))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue  # damaged, or of another format: nothing to learn from it
        if any(wanted.get(key) != had.get(key) for key in ("features.kind", "protocol.name")):
            continue
        changed = sorted(k for k in wanted | had if wanted.get(k) != had.get(k))
        found.append((len(changed), path.parent.name, changed, had))
    if not found:
        return None
    _, name, changed, had = min(found, key=lambda one: one[:2])
    parts = [f"{k} is {_shown(wanted, k)}, not {_shown(had, k)}" for k in changed[:SHOWN]]
    more = [f"and {len(changed) - SHOWN} more"] if len(changed) > SHOWN else []
    return f"{name} has another fingerprint: {'; '.join(parts + more)}"


def _leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every value within dicts by its dotted name; a list is one value."""
    if not isinstance(value, Mapping):
        yield name, value
        return
    for key, inner in value.items():
        yield from _leaves(inner, f"{name}.{key}" if name else str(key))


def _shown(leaves: Mapping[str, Any], name: str) -> str:
    if name not in leaves:
        return "absent"
    value = leaves[name]
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value):
        return f"{value[:8]}…"  # a hash: nobody reads more of it
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:37]}…"
