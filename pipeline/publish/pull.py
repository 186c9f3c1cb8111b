"""A published dataset back as a sealed one, on the disk.

A copy is named by the ``dataset.json`` that it was pulled by.
"""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from pipeline.dataset import NAME, Sealed, open_sealed, verify
from pipeline.errors import DatasetError, ShardwellError
from pipeline.files import CACHE, alone, sha256_of, write_json
from pipeline.publish.config import Tick
from pipeline.publish.known import known_or, note_of
from pipeline.publish.place import parse_place
from pipeline.publish.published import Published, find
from pipeline.publish.rebuild import rebuild
from pipeline.records import ShardInfo
from pipeline.rows import content_of, pieces
from pipeline.shard import read_shard


def pull(
    where: str,
    out: Path,
    endpoint: str | None = None,
    tick: Tick = lambda done: None,
    proven: bool = True,
) -> Path:
    """Bring a published dataset to ``<out>/<user>/<name>/<config>-<8 hex>`` as sealed shards.

    The features, keys and labels are those that were published, to the bit. What is there already
    and whole is kept, the rest of it brought anew; where not ``proven``, a copy whose files have
    their sizes counts as whole. ``tick`` is called with the bytes of each finished shard.

    Raises:
        UsageError: ``where`` is no place, or has several configs and names none.
        RemoteError: the Hub can't be read.
        DatasetError: what is there is not what its ``dataset.json`` says, or not from shardwell.
    """
    found = find(where, endpoint)
    version = hashlib.sha256(found.data).hexdigest()[:8]
    folder = out.expanduser() / found.place.repository / f"{found.config.name}-{version}"
    with alone(folder):
        if not _is_there(folder, proven):
            _rebuild(found, folder, tick)
    return folder


def _is_there(folder: Path, proven: bool) -> bool:
    try:
        open_sealed(folder)
        return not (proven and verify(folder, lambda done: None))
    except DatasetError:
        return False


def bring_from_hub(where: str, cache: Path | None) -> Path:
    """The local copy of a published dataset, for ``open_dataset``: see ``pull``.

    A copy that was brought before is opened without the Hub where ``known_or`` says so.
    """
    root, place = (cache or CACHE).expanduser(), parse_place(where)
    note = note_of(place, root, "json")

    def bring() -> Path:
        folder = pull(where, root / "hub", proven=False)
        write_json(note, {"folder": folder.name})
        return folder

    return known_or(place, _noted(note), bring)


def _noted(note: Path) -> Path | None:
    """The copy that a place was found to be when it was brought, if it is still there."""
    try:
        folder = note.parent / Path(json.loads(note.read_text(encoding="utf-8"))["folder"]).name
    except (OSError, ValueError, KeyError, TypeError):  # none yet, or damaged
        return None
    return folder if (folder / NAME).exists() else None


def _rebuild(found: Published, folder: Path, tick: Tick) -> None:
    """Every shard, then ``dataset.json``: without it the folder is no dataset."""
    sealed = found.config.sealed
    folder.mkdir(exist_ok=True)
    for left in folder.glob(".*.part"):  # of a run that was killed
        left.unlink()
    infos: dict[str, list[dict[str, object]]] = {}
    for split, shards in sealed.splits.items():
        infos[split] = []
        for info in shards:
            path = folder / f"{info.shard}.arrow"
            if not _is_whole(path, sealed, found.files[info.shard]["content"]):
                rebuild(found, path, info)
            size, digest = path.stat().st_size, sha256_of(path)
            infos[split].append(asdict(ShardInfo(info.shard, info.rows, size, digest)))
            tick(info.bytes)
    kept = {name: value for name, value in sealed.info.items() if name != "published"}
    write_json(folder / NAME, {**kept, "splits": infos})


def _is_whole(path: Path, sealed: Sealed, content: str) -> bool:
    """Whether a run that was interrupted left this shard, and it is the right one."""
    try:
        shard = read_shard(path, sealed.columns) if path.exists() else None
        return shard is not None and content_of(pieces(shard, sealed.columns)) == content
    except ShardwellError:
        return False
