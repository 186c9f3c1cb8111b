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
    wanted, noted = made_from(rows, job), _noted(f"{url}/{task.shard}.json")
    if noted.get("made_from") == wanted and _is_whole(url, task, noted):
        return noted
    job.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=job.folder) as scratch:
        sidecar = build_rows(replace(job, folder=Path(scratch)), task, rows)
        if noted and noted.get("made_from") != wanted:  # of other versions: it would vouch for this
            remove(f"{url}/{task.shard}.json")
        for name in (f"{task.shard}.arrow", f"{task.shard}.json"):
            upload(Path(scratch) / name, f"{url}/{name}")
    return sidecar


def _noted(url: str) -> dict[str, Any]:
    """The values of a sidecar in the store; none where it is missing, or not ours."""
    try:
        values = json.loads(read(url) or b"")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _is_whole(url: str, task: Task, sidecar: dict[str, Any]) -> bool:
    """Whether the store holds a shard with as many bytes as its sidecar says."""
    name = f"{task.shard}.arrow"
    return sizes(f"{url}/{name}").get(name, -1) == sidecar.get("bytes")
