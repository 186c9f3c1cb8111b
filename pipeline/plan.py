"""Examples → plan table → Tasks, and the fingerprint of a declaration.

The plan is an Arrow file with one row per example, sorted by split and then by a hash of the key,
so that reading shards in order is already well mixed. Its rows are cut into tasks before work
starts; which worker takes a task changes nothing.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.audio import Audio, wav_duration
from pipeline.columns import lists, numbers, strings, view
from pipeline.errors import FeatureError, RecipeError
from pipeline.features import Feature
from pipeline.files import written
from pipeline.labels import label_column, label_names, stored_as
from pipeline.manifest import SPLITS
from pipeline.records import Example, Ref, Task

# A split is cut into shards of 16 MiB, so that two workers on a small corpus end together; beyond
# SHARDS of them shards grow instead, up to 256 MiB, so that a large corpus is not a million files.
SMALLEST_SHARD, LARGEST_SHARD, SHARDS = 16 << 20, 256 << 20, 256
BATCH = 1 << 16


@dataclass(frozen=True)
class Plan:
    """A written plan.

    Attributes:
        path: the plan table.
        tasks: its rows, cut into shards.
        rows: examples per split.
        seconds: length of all audio, estimated from byte sizes as 16-bit mono PCM.
        nbytes: size of all features, estimated in the same way.
        classes: names of every class label, sorted; a stored label is an index into them. Of a
            label of characters, those of train: stored are 1 + their indices.
    """

    path: Path
    tasks: tuple[Task, ...]
    rows: Mapping[str, int]
    seconds: float
    nbytes: int
    classes: Mapping[str, tuple[str, ...]]


def fingerprint(declaration: Mapping[str, Any]) -> str:
    """8 hex digits that name a declaration: the sha256 of its canonical JSON."""
    text = json.dumps(declaration, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def write_plan(
    path: Path,
    examples: Iterable[Example],
    labels: Mapping[str, str],
    feature: Feature,
    audio: Audio | None,
    recorded_rate: int | None = None,
) -> Plan:
    """Write the plan table of all examples and cut it into tasks.

    Lengths are estimated at ``recorded_rate``, in Hz; without one, at the rate of ``audio``.

    Raises:
        RecipeError: an example with an unknown split, a key that stands twice, or wrong labels.
    """
    table = _sorted(_table(examples, labels))
    sizes = _sizes(table)
    splits = view(table.column("split").chunk(0))
    train = table.slice(0, int(np.searchsorted(splits, SPLITS.index("train"), side="right")))
    names = label_names(table, train, labels)
    wanted_rate = audio.sample_rate if audio else 1
    recorded = recorded_rate or wanted_rate
    tasks: list[Task] = []
    rows, nbytes = {}, 0
    for number, split in enumerate(SPLITS):
        first, last = np.searchsorted(splits, [number, number + 1])
        if first == last:
            continue
        rows[split] = int(last - first)
        resampled = sizes[first:last] * wanted_rate // recorded
        split_bytes = _feature_bytes(resampled, feature, audio)
        nbytes += split_bytes
        tasks.extend(_cut(split, int(first), int(last), split_bytes))
    seconds = wav_duration(int(sizes.sum()), recorded) if audio else 0.0
    _write(path, table)
    return Plan(path, tuple(tasks), rows, seconds, nbytes, names)


@dataclass(frozen=True)
class Rows:
    """The plan's rows of one task as examples, and the sha256 (hex) of all that they say."""

    examples: Sequence[Example]
    sha256: str


def read_rows(path: Path, task: Task) -> Rows:
    """The plan's rows of one task."""
    with pa.memory_map(os.fspath(path)) as mapped:
        whole = pa.ipc.open_file(mapped).read_all()
        (rows,) = whole.slice(task.first, task.last - task.first).combine_chunks().to_batches()
        digest = hashlib.sha256(rows.serialize()).hexdigest()
        keys, splits, lists_of_refs, *values = rows.columns
        refs = _refs(lists_of_refs.flatten())
        ends = view(lists_of_refs.offsets) - lists_of_refs.offsets[0].as_py()
        names = rows.schema.names[-len(values) :] if values else []
        labels = [dict(zip(names, row, strict=True)) for row in _rows_of(values, len(keys))]
    places = [tuple(refs[first:last]) for first, last in pairwise(ends.tolist())]
    named = [SPLITS[split] for split in splits.to_pylist()]
    rows_of_task = zip(keys.to_pylist(), named, places, labels, strict=True)
    return Rows([Example(*row) for row in rows_of_task], digest)


def _rows_of(columns: Sequence[pa.Array], rows: int) -> Iterable[tuple[Any, ...]]:
    return zip(*(column.to_pylist() for column in columns), strict=True) if columns else [()] * rows


def _table(examples: Iterable[Example], labels: Mapping[str, str]) -> pa.Table:
    """All examples as Arrow columns, converted a batch at a time to keep memory small."""
    batches, stream = [], iter(examples)
    stored: dict[str, str | None] = dict.fromkeys(labels)
    while chunk := list(islice(stream, BATCH)):
        refs = [ref for example in chunk for ref in example.refs]
        columns = {
            "key": strings([e.key for e in chunk]),
            "split": numbers([_split_number(e) for e in chunk], "int8"),
            "hash": numbers([_key_hash(e.key) for e in chunk], "uint64"),
            "refs": lists([_ref_count(e) for e in chunk], _refs_array(refs)),
        }
        for name, kind in labels.items():
            stored[name] = stored[name] or stored_as(chunk, name, kind)  # one for all the batches
            columns[name] = label_column(chunk, name, kind, stored[name])
        batches.append(pa.Table.from_arrays(list(columns.values()), names=list(columns)))
    if not batches:
        raise RecipeError("the recipe found no example at all; is this the right archive?")
    return pa.concat_tables(batches, promote_options="default")  # where a batch has no class at all


def _sorted(table: pa.Table) -> pa.Table:
    """The rows by split, then by the hash of their key, then by key; the hashes are dropped.

    Column by column, so that no more than one of them is held twice.

    Raises:
        RecipeError: a key stands twice.
    """
    hashes = view(table.column("hash").combine_chunks())
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    keys = table.column("key").combine_chunks()
    for i in np.flatnonzero(hashes[1:] == hashes[:-1]):  # hardly ever: equal keys, or a collision
        first, second = (keys[int(order[j])].as_py() for j in (i, i + 1))
        if first == second:
            raise RecipeError(
                f"example {first}: its key stands more than once; keys must be unique"
            )
        if first > second:
            order[i], order[i + 1] = order[i + 1], order[i]
    splits = view(table.column("split").combine_chunks())
    order = numbers(order[np.argsort(splits[order], kind="stable")], "int64")
    columns = {}
    for name in table.column_names:
        if name != "hash":
            columns[name] = table.column(name).combine_chunks().take(order)
        table = table.drop_columns([name])
    return pa.table(columns)


def _refs_array(refs: Sequence[Ref]) -> pa.Array:
    """Refs as a struct array; an open ``stop`` is stored as -1."""
    places = {
        "source": strings([r.source for r in refs]),
        "offset": numbers([r.offset for r in refs], "int64"),
        "size": numbers([r.size for r in refs], "int64"),
        "start": numbers([r.start for r in refs], "int64"),
        "stop": numbers([-1 if r.stop is None else r.stop for r in refs], "int64"),
    }
    return pa.StructArray.from_arrays(list(places.values()), names=list(places))


def _refs(places: pa.StructArray) -> list[Ref]:
    """The refs of a struct array."""
    columns = (column.to_pylist() for column in places.flatten())
    return [
        Ref(source, offset, size, start, None if stop < 0 else stop)
        for source, offset, size, start, stop in zip(*columns, strict=True)
    ]


def _split_number(example: Example) -> int:
    if example.split not in SPLITS:
        raise RecipeError(
            f"example {example.key}: split {example.split!r}: expected one of {', '.join(SPLITS)}"
        )
    return SPLITS.index(example.split)


def _ref_count(example: Example) -> int:
    if not example.refs:
        raise RecipeError(f"example {example.key}: expected at least one ref to its bytes")
    return len(example.refs)


def _key_hash(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little")


def _sizes(table: pa.Table) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Bytes of each row's refs, (rows,); of what is cut out of a recording, as 16-bit mono."""
    refs = table.column("refs").chunk(0)
    size, start, stop = (view(refs.values.field(name)) for name in ("size", "start", "stop"))
    sizes = np.where(stop < 0, size, np.minimum(size, 2 * (stop - start)))
    ends = np.concatenate([[0], np.cumsum(sizes)])[view(refs.offsets)]
    return np.diff(ends)


def _feature_bytes(sizes: np.ndarray[Any, Any], feature: Feature, audio: Audio | None) -> int:
    """Estimated bytes of the features of examples whose sources have these sizes."""
    itemsize = np.dtype(feature.dtype).itemsize
    fixed = feature.shape(audio.n_samples if audio else None)
    if fixed[0] is not None:
        return len(sizes) * itemsize * math.prod(n for n in fixed if n is not None)
    total = int(sizes.sum())
    # Audio of open length: all clips as one long one. Anything else: one value per byte.
    try:
        shape = feature.shape(total // 2 if audio else total)
    except FeatureError:  # all too short for a frame, it seems: who decodes them will know
        return 0
    return itemsize * math.prod(total if n is None else n for n in shape)


def shard_count(nbytes: int) -> int:
    """How many shards a split of so many bytes becomes."""
    size = min(max(nbytes / SHARDS, SMALLEST_SHARD), LARGEST_SHARD)
    return max(1, math.ceil(nbytes / size))


def _cut(split: str, first: int, last: int, nbytes: int) -> Iterator[Task]:
    """Rows ``[first, last)`` as equally many rows per shard."""
    count = min(last - first, shard_count(nbytes))
    edges = [first + (last - first) * i // count for i in range(count + 1)]
    for i in range(count):
        yield Task(f"{split}-{i:05d}-of-{count:05d}", edges[i], edges[i + 1])


def _write(path: Path, table: pa.Table) -> None:
    with (
        written(path) as temporary,
        temporary.open("wb") as out,
        pa.ipc.new_file(out, table.schema) as writer,
    ):
        writer.write_table(table)
