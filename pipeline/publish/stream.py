"""A published split, example by example, without keeping it."""

from collections.abc import Iterator
from typing import Any

from pipeline.errors import unknown_name
from pipeline.hub import client, hub_errors
from pipeline.publish.config import data_file
from pipeline.publish.parquet import read_parquet
from pipeline.publish.place import parse_place
from pipeline.publish.published import check, published
from pipeline.rows import Content, Rows


def stream(where: str, split: str, endpoint: str | None = None) -> Iterator[dict[str, Any]]:
    """A published split, example by example, in its order; nothing is kept.

    Each is a dict of ``key``, the labels and ``features`` as stored. Files are read in pieces of
    16 MiB of features; a shard's last example is followed by the proof of all of them.

    Raises:
        UnknownNameError: there is no such split.
        ShardwellError: as ``pull``; for wrong rows, at the end of their shard.
    """
    from huggingface_hub import HfFileSystem

    place, api = parse_place(where), client(endpoint)
    url = f"{api.endpoint}/datasets/{place.repository}"
    with hub_errors(url):
        found = published(api, place)
        sealed = found.config.sealed
        if split not in sealed.splits:
            raise unknown_name(f"split of {where}", split, sealed.splits)
        store = HfFileSystem(endpoint=api.endpoint)
        for info in sealed.splits[split]:
            path = data_file(found.config, info, "parquet")
            content = Content()
            name = f"datasets/{place.repository}@{found.commit}/{path}"
            with store.open(name, block_size=1 << 20) as file:
                for rows in read_parquet(file, sealed, info):
                    content.add(rows)
                    yield from _examples(rows)
            check(path, "rows with the hash", found.files[info.shard]["content"], content.sha256())


def _examples(rows: Rows) -> Iterator[dict[str, Any]]:
    columns = {"key": rows.keys, **rows.labels}
    values = {name: column.to_pylist() for name, column in columns.items()}
    for i, features in enumerate(rows.features()):
        yield {name: column[i] for name, column in values.items()} | {"features": features}
