"""One Task → one shard at a URL: what a worker does where there is no shared disk.

A shard is built in a scratch folder, uploaded, and its sidecar after it: a sidecar in the store
stands for a shard that is whole. Two runs for one URL upload the same bytes.
"""

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.build import Job, build_rows, made_from
from pipeline.plan import Rows
from pipeline.records import Task
from pipeline.remote import read, remove, sizes, upload

Work = tuple[Task, Rows]


def ship(url: str, job: Job, work: Work) -> dict[str, Any]:
    """Build a shard and upload it with its sidecar, unless both are there; the sidecar's values.

    The plan's rows come with the task, for the plan itself may lie on another machine.

    Raises:
        RemoteError: the store can't be written.
    """
    task, rows = work
    there = _shipped(url, task, made_from(rows, job))
    if there:
        return there
    job.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=job.folder) as scratch:
        sidecar = build_rows(replace(job, folder=Path(scratch)), task, rows)
        remove(f"{url}/{task.shard}.json")  # one of other versions, which must not vouch for this
        for name in (f"{task.shard}.arrow", f"{task.shard}.json"):
            upload(Path(scratch) / name, f"{url}/{name}")
    return sidecar


def _shipped(url: str, task: Task, wanted: str) -> dict[str, Any] | None:
    """The sidecar of a shard in the store that is what this run would make."""
    data = read(f"{url}/{task.shard}.json")
    try:
        values: dict[str, Any] = json.loads(data or b"")
        if values["made_from"] != wanted:
            return None
        size = sizes(f"{url}/{task.shard}.arrow").get(f"{task.shard}.arrow")
        return values if size == values["bytes"] else None
    except (ValueError, KeyError, TypeError):
        return None  # missing, or not ours: build it again
