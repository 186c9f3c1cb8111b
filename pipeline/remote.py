"""Sealed datasets elsewhere, at any URL that fsspec knows: list, fetch through a cache, upload.

Credentials and endpoints come from where the store's own library looks for them (for S3 the
environment and ``~/.aws``). A copy lies in ``<cache>/remote/<of URL>-<of dataset.json>``: another
``dataset.json`` at the same URL is another copy, its shards never meet those of the first.
"""

import contextlib
import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeGuard

from pipeline.dataset import NAME, Sealed, check_size, parse
from pipeline.errors import DatasetError, RemoteError
from pipeline.files import CACHE, CHUNK, DISK_ERRORS, alone, sha256_of, written
from pipeline.holding import holding
from pipeline.records import ShardInfo

# In these stores an object is whole or absent, and a rename is a copy; elsewhere files are
# written under a temporary name.
WHOLE_OR_ABSENT = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"}
INSTALL = {"s3": "pip install 'shardwell[s3]'", "s3a": "pip install 'shardwell[s3]'"}
AT_ONCE = 4  # shards that are fetched at a time
LARGEST_JSON = 1 << 28  # bytes of a dataset.json or a sidecar that are read


def is_url(where: str | Path) -> TypeGuard[str]:
    """Whether this is a URL; paths are ``Path``s or have no ``://``."""
    return isinstance(where, str) and "://" in where


def read(url: str) -> bytes | None:
    """The bytes of a small file; None where there is no such file.

    Raises:
        RemoteError: the store can't be read, or the file is larger than 256 MiB.
    """
    with _store(url) as (store, path):
        try:
            size = store.info(path)["size"]
            if size > LARGEST_JSON:
                raise RemoteError(f"{url}: expected a small file, got {size:,} bytes")
            data: bytes = store.cat_file(path)
        except FileNotFoundError:
            return None
        return data


def sizes(url: str) -> dict[str, int]:
    """The files at a URL: name → bytes; none where there is no such folder."""
    with _store(url) as (store, path):
        try:
            entries = store.ls(path, detail=True)
        except FileNotFoundError:
            return {}
        return {str(e["name"]).rpartition("/")[2]: e["size"] for e in entries}


def upload(local: Path, url: str) -> None:
    """Copy a file to a URL: it is there whole or not at all, and has the file's size.

    Raises:
        RemoteError: the store can't be written, or keeps another number of bytes.
    """
    with _store(url) as (store, path):
        if _protocols(store) & WHOLE_OR_ABSENT:
            store.put_file(str(local), path)
        else:
            folder, _, name = path.rpartition("/")
            temporary = f"{folder}/.{name}.{secrets.token_hex(4)}.part"
            store.makedirs(folder, exist_ok=True)
            store.put_file(str(local), temporary)
            store.mv(temporary, path)
        store.invalidate_cache()
        kept, size = store.info(path)["size"], local.stat().st_size
    if kept != size:
        raise RemoteError(f"{url}: expected {size:,} bytes after the upload, got {kept:,}")


def remove(url: str) -> None:
    """Remove a file, if it is there."""
    with _store(url) as (store, path), contextlib.suppress(FileNotFoundError):
        store.rm_file(path)


def open_remote(url: str) -> Sealed:
    """What the ``dataset.json`` at a URL says; nothing else is read but the list of files.

    Raises:
        DatasetError: no sealed dataset, or a shard is missing or cut short.
        RemoteError: the store can't be read.
    """
    url = url.rstrip("/")
    sealed, _ = _parsed(url)
    there = sizes(url)
    for shard in _shards(sealed):
        check_size(f"{url}/{shard.shard}.arrow", there.get(f"{shard.shard}.arrow"), shard)
    return sealed


def bring(url: str, cache: Path | None = None) -> Path:
    """The folder of a local copy of the dataset at a URL; what is missing is fetched and verified.

    Raises:
        DatasetError: no sealed dataset, or a shard is not what its ``dataset.json`` says.
        RemoteError: the store can't be read.
    """
    url = url.rstrip("/")
    sealed, data = _parsed(url)
    name = (
        f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{hashlib.sha256(data).hexdigest()[:16]}"
    )
    folder = (cache or CACHE).expanduser() / "remote" / name
    folder.mkdir(parents=True, exist_ok=True)
    with holding(folder):
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            list(pool.map(lambda shard: _fetch(url, folder, shard), _shards(sealed)))
        finally:
            pool.shutdown(cancel_futures=True)
        sealed_copy = folder / NAME
        if not sealed_copy.is_file() or sealed_copy.read_bytes() != data:
            with written(sealed_copy) as temporary:
                temporary.write_bytes(data)
    return folder


def fetch_shard(url: str, target: Path, shard: ShardInfo) -> None:
    """Bring a shard of the dataset at a URL to ``target``: verified, or not at all.

    Raises:
        DatasetError: it is missing there, or not what the dataset says.
        RemoteError: the store can't be read.
        OSError: it can't be written here.
    """
    place = f"{url}/{shard.shard}.arrow"
    with written(target) as temporary:
        with _store(place) as (store, path):
            try:
                size = store.info(path)["size"]
            except FileNotFoundError:
                size = None
            if size == shard.bytes:
                store.get_file(path, str(temporary))
        check_size(place, size, shard)
        digest = sha256_of(temporary)
        if digest != shard.sha256:
            raise DatasetError(
                f"{place}: expected sha256 {shard.sha256}, got {digest}; upload the dataset again"
            )


def verify_remote(url: str, tick: Callable[[int], object]) -> list[str]:
    """Read every shard of a dataset at a URL and hash it; the problems found. Nothing is kept.

    ``tick`` is called with each shard's size in bytes once it is done.

    Raises:
        DatasetError: it can't be opened as a dataset at all.
        RemoteError: the store can't be read.
    """
    problems = []
    for shard in _shards(open_remote(url)):
        place, digest = f"{url.rstrip('/')}/{shard.shard}.arrow", hashlib.sha256()
        with _store(place) as (store, path), store.open(path, "rb", block_size=8 * CHUNK) as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
        if digest.hexdigest() != shard.sha256:
            problems.append(
                f"{place}: expected sha256 {shard.sha256}, got {digest.hexdigest()}; "
                "delete this file and prepare or upload the dataset again"
            )
        tick(shard.bytes)
    return problems


def _parsed(url: str) -> tuple[Sealed, bytes]:
    """The dataset that a URL's ``dataset.json`` describes, and that file's bytes."""
    place = f"{url.rstrip('/')}/{NAME}"
    data = read(place)
    if data is None:
        raise DatasetError(
            f"{url}: expected a sealed dataset with a {NAME}, got none there; "
            "make one with: shardwell prepare RECIPE --out URL"
        )
    try:
        info = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{place}: not readable as JSON: {error}") from None
    return parse(Path(url), info, place), data


def _shards(sealed: Sealed) -> Sequence[ShardInfo]:
    return [shard for shards in sealed.splits.values() for shard in shards]


def _is_whole(target: Path, shard: ShardInfo) -> bool:
    """Whether ``fetch_shard`` brought that shard: a name stands for bytes that were verified."""
    return target.is_file() and target.stat().st_size == shard.bytes


def _fetch(url: str, folder: Path, shard: ShardInfo) -> None:
    """Bring one shard to a copy, unless it is there."""
    target = folder / f"{shard.shard}.arrow"
    if _is_whole(target, shard):  # without a lock: a cache may be read-only
        return
    with alone(target):
        if not _is_whole(target, shard):
            fetch_shard(url, target, shard)


@contextlib.contextmanager
def _store(url: str) -> Iterator[tuple[Any, str]]:
    """A URL's file system and the path in it; what goes wrong with it is one line.

    Every store has errors of its own, which share no class: hence the broad ``except``.
    """
    import fsspec.core

    try:
        store, path = fsspec.core.url_to_fs(url)
        store.invalidate_cache()  # others write there, too
        yield store, str(path)
    except (RemoteError, DatasetError):
        raise
    except ImportError as error:
        protocol = url.partition("://")[0]
        raise RemoteError(f"{url}: {INSTALL.get(protocol, error)}") from None
    except ValueError as error:  # fsspec knows no such protocol
        raise RemoteError(f"{url}: {error}; expected s3://, hf:// or another of fsspec's") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise  # of the disk here, not of the store
        said = " ".join(str(error).split()) or type(error).__name__
        raise RemoteError(f"{url}: {said}{_advice(error)}") from None


def _advice(error: Exception) -> str:
    """What to do about the commonest of them."""
    return {
        "NoCredentialsError": "; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        "EndpointConnectionError": "; is the network there, and AWS_ENDPOINT_URL right?",
        "PermissionError": "; may these credentials read and write there?",
    }.get(type(error).__name__, "")


def _protocols(store: Any) -> set[str]:
    own = store.protocol
    return {own} if isinstance(own, str) else set(own)
