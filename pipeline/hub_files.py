"""The Parquet files of any dataset on a Hub, taken at one commit and held against its hashes."""

import hashlib
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.errors import RemoteError, UsageError
from pipeline.files import CHUNK, alone, sha256_of
from pipeline.hub import client, hub_errors

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")
CONVERTED = "refs/convert/parquet"  # where the Hub keeps its own conversion of other formats
AT_ONCE = 200
KIND = "dataset"


@dataclass(frozen=True)
class HubFile:
    """A file of a commit: its size, its sha256 where it is in LFS, its git hash (both hex)."""

    path: str
    size: int
    sha256: str | None
    git: str


def pinned(repository: str, revision: str) -> str:
    """The commit that a revision is now; that of the Hub's own conversion where it has no Parquet.

    Raises:
        UsageError: that is no name of a repository.
        RemoteError: the Hub can't be read, or has no Parquet of it.
    """
    if not REPOSITORY.fullmatch(repository) or ".." in repository:
        raise UsageError(f"repo={repository}: expected the name of a dataset, as user/name")
    api = client(None)
    where = f"{api.endpoint}/datasets/{repository}"
    with hub_errors(where):
        info = api.dataset_info(repository, revision=revision)
        if not _parquet([file.rfilename for file in info.siblings or ()]):
            info = api.dataset_info(repository, revision=CONVERTED)
    commit = str(info.sha)
    if not COMMIT.fullmatch(commit):
        raise RemoteError(f"{where}: expected a commit of 40 hex digits, got {commit!r}")
    return commit


def parquet_files(repository: str, commit: str) -> list[HubFile]:
    """The Parquet files of a commit, sorted by path.

    Raises:
        RemoteError: the Hub can't be read, there are none, or one has a path that leads elsewhere.
    """
    api = client(None)
    where = f"{api.endpoint}/datasets/{repository}"
    with hub_errors(where):
        info = api.dataset_info(repository, revision=commit)
        paths = _parquet([file.rfilename for file in info.siblings or ()])
        if not paths:
            raise RemoteError(f"{where}: no Parquet file in commit {commit}; try revision=main")
        found = []
        for i in range(0, len(paths), AT_ONCE):
            some = paths[i : i + AT_ONCE]
            found += api.get_paths_info(repository, some, repo_type=KIND, revision=commit)
    files = []
    for file in found:
        lfs = getattr(file, "lfs", None)
        size, git = int(getattr(file, "size", 0)), str(getattr(file, "blob_id", ""))
        files.append(HubFile(file.path, size, lfs.sha256 if lfs else None, git))
    if sorted(file.path for file in files) != paths:
        raise RemoteError(f"{where}: tells of other files than it lists; run again")
    return sorted(files, key=lambda file: file.path)


@contextmanager
def brought(
    repository: str, commit: str, files: Sequence[HubFile], folder: Path
) -> Iterator[list[Path]]:
    """Files of a commit in ``folder``, which other processes leave alone until the block ends.

    Then they are removed; after an error they stay, so that the next run goes on there.

    Raises:
        RemoteError: see ``download``.
    """
    with alone(folder):
        yield [download(repository, commit, file, folder) for file in files]
        shutil.rmtree(folder, ignore_errors=True)


def download(repository: str, commit: str, file: HubFile, folder: Path) -> Path:
    """A file in ``folder``, whole and with the hash that the commit says.

    Raises:
        RemoteError: the Hub can't be read, or sends other bytes; those are removed.
    """
    api = client(None)
    where = f"{api.endpoint}/datasets/{repository}/{file.path}"
    with hub_errors(where):
        path = Path(
            api.hf_hub_download(
                repository, file.path, repo_type=KIND, revision=commit, local_dir=folder
            )
        )
    expected, got = (
        (file.sha256, sha256_of(path)) if file.sha256 else (file.git, _git_hash(path, file.size))
    )
    if expected != got:
        path.unlink()
        raise RemoteError(f"{where}: expected the hash {expected}, got {got}; run again")
    return path


def _parquet(paths: Sequence[str]) -> list[str]:
    """The Parquet files among paths, sorted.

    Raises:
        RemoteError: one of them leads elsewhere.
    """
    found = sorted(path for path in paths if path.endswith(".parquet"))
    for path in found:
        parts = PurePosixPath(path).parts
        if ".." in parts or path.startswith("/") or "\\" in path:
            raise RemoteError(f"{path!r}: expected a path within the dataset")
    return found


def _git_hash(path: Path, size: int) -> str:
    """The name that git gives a file of that size (hex)."""
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    with path.open("rb") as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
