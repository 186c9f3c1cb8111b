"""Published files back as the shards that they were; nothing that a Hub says is trusted.

What it says is checked before it is used: sizes before anything is fetched, hashes before anything
is read, widths and counts before anything is kept. Nothing of it is ever executed.
"""

import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import DatasetError
from pipeline.files import sha256_of
from pipeline.hub import hub_errors
from pipeline.publish.config import Tick, data_file
from pipeline.publish.parquet import read_parquet
from pipeline.publish.published import Published, check
from pipeline.publish.untar import read_webdataset
from pipeline.records import ShardInfo
from pipeline.rows import Rows, content_of
from pipeline.shard import write_shard

READERS = {"parquet": read_parquet, "webdataset": read_webdataset}


def rebuild(found: Published, target: Path, info: ShardInfo) -> None:
    """Bring a published shard to ``target`` as the sealed one that it was: proven, or not at all.

    Raises:
        DatasetError: what is on the Hub is not what its ``dataset.json`` says.
        RemoteError: the Hub can't be read.
        OSError: it can't be written here.
    """
    columns = found.config.sealed.columns
    with _fetched(found, target, info) as file:
        held = _rows(found, file, info)
    labels = {
        name: [value for rows in held for value in rows.labels[name].to_pylist()]
        for name in columns.labels
    }
    keys = [key for rows in held for key in rows.keys.to_pylist()]
    features = [features for rows in held for features in rows.features()]
    write_shard(target, columns, keys, labels, features, flushed=True)


def verify_published(found: Published, tick: Tick) -> list[str]:
    """Read every file of a published dataset and hash it and its rows; the problems found.

    Nothing is kept. ``tick`` is called with each shard's size in bytes once it is done.

    Raises:
        RemoteError: the Hub can't be read.
    """
    problems = []
    with tempfile.TemporaryDirectory(prefix="shardwell-") as folder:
        for info in found.config.shards:
            try:
                with _fetched(found, Path(folder, info.shard), info) as file:
                    _rows(found, file, info)
            except DatasetError as error:
                problems.append(str(error))
            tick(info.bytes)
    return problems


@contextmanager
def _fetched(found: Published, target: Path, info: ShardInfo) -> Iterator[Path]:
    """A shard's file as it was published, beside ``target``, until the block ends."""
    from huggingface_hub import HfFileSystem

    path, promised = data_file(found.config, info, found.form), found.files[info.shard]
    file = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with hub_errors(found.url):
            store = HfFileSystem(endpoint=found.endpoint)
            name = f"datasets/{found.place.repository}@{found.commit}/{path}"
            store.get_file(name, str(file))
        check(path, "sha256", promised["sha256"], sha256_of(file))
        yield file
    except OSError as error:  # writing to an open file does not name it
        error.filename = error.filename or str(target)
        raise
    finally:
        file.unlink(missing_ok=True)


def _rows(found: Published, file: Path, info: ShardInfo) -> Sequence[Rows]:
    """A shard's rows, which are those that were published."""
    held = list(READERS[found.form](file, found.config.sealed, info))
    check(info.shard, "rows with the hash", found.files[info.shard]["content"], content_of(held))
    return held
