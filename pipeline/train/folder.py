"""A run's folder: settings.json, log.jsonl, the checkpoints, pictures."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import ModelError, UsageError
from pipeline.files import write_json, written
from pipeline.loader import Dataset
from pipeline.train.checkpoint import LAST, Saved, load
from pipeline.train.settings import Settings

SETTINGS, LOG = "settings.json", "log.jsonl"
FREE = {"workers", "save_every"}  # they decide no weight: a run may go on with others


def run_name(data: Dataset, settings: Settings) -> str:
    """``<recipe>-<protocol>-<model>-<8 hex>``; the digits stand for settings and data."""
    whole = recorded(data, settings)
    whole["settings"] = {k: v for k, v in whole["settings"].items() if k not in FREE}
    decides = json.dumps(whole, sort_keys=True)
    info, digits = data.info, hashlib.sha256(decides.encode()).hexdigest()[:8]
    return f"{info['recipe']['name']}-{info['protocol']['name']}-{settings.model}-{digits}"


def recorded(data: Dataset, settings: Settings) -> dict[str, Any]:
    """What a run is: its settings and the very examples, by split."""
    identities = {name: split.identity for name, split in data.items()}
    return {"settings": settings.to_dict(), "data": identities}


def begun(folder: Path, wanted: Mapping[str, Any]) -> Saved | None:
    """The last checkpoint of the same run, to go on from; None where it is yet to begin.

    Raises:
        UsageError: the folder holds a run of other settings or data.
        ModelError: its checkpoint is damaged.
    """
    path = folder / SETTINGS
    if not path.exists():
        return None
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        pairs = [(before.get(part, {}), wanted[part]) for part in wanted]
        changes = [
            f"{name}={old.get(name)!r}, now {new.get(name)!r}"
            for old, new in pairs
            for name in {**old, **new}
            if name not in FREE and old.get(name) != new.get(name)
        ]
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{path}: not readable: {error}; remove the folder") from None
    if changes:
        raise UsageError(
            f"{folder} holds a run with {'; '.join(changes[:4])}: "
            "choose another --out, or remove that folder"
        )
    return load(folder, LAST) if (folder / LAST).exists() else None


def record(folder: Path, what: Mapping[str, Any]) -> None:
    """Say what is run, unless that was said."""
    if not (folder / SETTINGS).exists():
        write_json(folder / SETTINGS, what)


def events(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; a last one that a killed run left half written is left out."""
    path, found = folder / LOG, []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def cut_log(folder: Path, step: int) -> None:
    """Forget what was logged after a step: it is going to be done again."""
    kept = [event for event in events(folder) if event["step"] <= step and event["what"] != "end"]
    with written(folder / LOG) as temporary:
        text = "".join(json.dumps(event) + "\n" for event in kept)
        temporary.write_text(text, encoding="utf-8")


def log(folder: Path, **event: Any) -> None:
    """Append one line to a run's log."""
    with (folder / LOG).open("a", encoding="utf-8") as out:
        out.write(json.dumps(event) + "\n")
