"""A folder to a repository on a Hub: one commit with everything, or none."""

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.dataset import NAME
from pipeline.errors import OutputError, RemoteError, UsageError
from pipeline.hub import CHANGED, KIND, check_writer, hub_errors, status_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

WAITS = (1.0, 4.0, 16.0)  # seconds before the commit itself is tried again
OTHERS = {"README.md", ".gitattributes"}


@dataclass(frozen=True)
class Target:
    """Where a folder goes.

    Attributes:
        revision: a branch; made if it is not there.
        private: only for its owners, also where it is public now.
        gated: only for whom its owners let in.
        tag: a name for the commit.
    """

    repository: str
    revision: str = "main"
    private: bool = False
    gated: bool = False
    tag: str | None = None


@dataclass(frozen=True)
class Uploaded:
    """The commit that holds the folder now; ``changed`` is False where it was there already."""

    url: str
    commit: str
    changed: bool


def check_target(api: "HfApi", target: Target, configs: Collection[str]) -> str | None:
    """See that the folder may go there, as far as that can be seen without changing anything.

    Returns:
        The commit that is there now; None where the repository or the branch is to be made.

    Raises:
        RemoteError: no token, one that may only read, another's name, no Hub.
        OutputError: the repository holds files that shardwell has not published.
        UsageError: it holds configs beside ours.
    """
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    check_writer(api, target.repository)
    with hub_errors(_url(api, target)):
        try:
            head, there = _there(api, target)
        except (RepositoryNotFoundError, RevisionNotFoundError):
            return None
        _check_others(target.repository, there, configs)
    return head


def _open_repository(api: "HfApi", target: Target) -> None:
    """Make the repository and the branch where they are missing, and hide them where asked to."""
    from huggingface_hub.errors import RepositoryNotFoundError

    name = target.repository
    api.create_repo(name, repo_type=KIND, private=target.private or None, exist_ok=True)
    try:
        info = api.dataset_info(name)
    except RepositoryNotFoundError:
        raise RemoteError(
            f"{_url(api, target)}: the name is taken by what is no dataset; take another"
        ) from None
    if target.private and not info.private:
        api.update_repo_settings(name, repo_type=KIND, private=True)
    if target.gated and not info.gated:
        api.update_repo_settings(name, repo_type=KIND, gated="auto")
    if target.revision != "main":
        api.create_branch(name, branch=target.revision, repo_type=KIND, exist_ok=True)


def _url(api: "HfApi", target: Target) -> str:
    return f"{api.endpoint}/datasets/{target.repository}"


def upload(
    api: "HfApi", target: Target, folder: Path, files: Collection[str], seen: str | None
) -> Uploaded:
    """Commit a folder's files to a repository, made if need be; what its configs lack now goes.

    The files are sent first and nobody sees them; the commit is one request that is checked
    against the state that we saw, ``seen`` by ``check_target``. What the Hub has is not sent again,
    and nothing new is no commit.

    Raises:
        RemoteError: the Hub refuses or can't be reached, or somebody else committed meanwhile.
        OutputError, UsageError: somebody else made the repository meanwhile, for other things.
        UsageError: the tag names another commit.
    """
    with hub_errors(_url(api, target)):
        _open_repository(api, target)
        before, there = _there(api, target)
        if seen is None:  # it was empty when we made it, unless somebody else was faster
            _check_others(target.repository, there, _folders(files))
        elif seen != before:
            raise RemoteError(f"{_url(api, target)}: {CHANGED}")
        commit = _committed(api, target, folder, files, before)
        if target.tag:
            _tag(api, target, commit)
    return Uploaded(_url(api, target), commit, commit != before)


def _committed(
    api: "HfApi", target: Target, folder: Path, names: Collection[str], before: str
) -> str:
    """The commit of the files, tried again where the Hub is busy."""
    for wait in WAITS:
        try:
            return _commit(api, target, folder, names, before)
        except Exception as error:
            status = status_of(error)
            if status is None or (status != 429 and status < 500):
                raise
            time.sleep(wait)
    return _commit(api, target, folder, names, before)


def _folders(names: Iterable[str]) -> set[str]:
    return {name.partition("/")[0] for name in names if "/" in name}


def _commit(api: "HfApi", target: Target, folder: Path, names: Collection[str], before: str) -> str:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    head, there = _there(api, target)
    ours = _folders(names)
    stale = [name for name in there if name.partition("/")[0] in ours and name not in names]
    # A commit whose answer was lost may be there: made once more, it is no change.
    if head != before and (stale or not set(names) <= set(there)):
        raise RemoteError(f"{_url(api, target)}: {CHANGED}")
    operations: list[Any] = [CommitOperationDelete(name) for name in stale]
    operations += [CommitOperationAdd(name, folder / name) for name in names]
    done = api.create_commit(
        target.repository,
        operations,
        commit_message="Publish with shardwell",
        repo_type=KIND,
        revision=target.revision,
        parent_commit=head,
    )
    return str(done.oid)


def _there(api: "HfApi", target: Target) -> tuple[str, list[str]]:
    """The head of the branch, and the files in it."""
    info = api.dataset_info(target.repository, revision=target.revision)
    return str(info.sha), [file.rfilename for file in info.siblings or ()]


def _check_others(name: str, there: Collection[str], configs: Collection[str]) -> None:
    data = [path for path in there if path not in OTHERS]
    held = {path.removesuffix(f"/{NAME}") for path in data if path.endswith(f"/{NAME}")}
    foreign = [path for path in data if path.partition("/")[0] not in held]
    if foreign:
        shown = ", ".join(foreign[:3]) + (", …" if len(foreign) > 3 else "")
        raise OutputError(
            f"{name}: holds files that shardwell has not published ({shown}); take another name"
        )
    if held - set(configs):
        others = ", ".join(sorted(held - set(configs)))
        raise UsageError(
            f"{name}: holds the config {others}, too; publish all its datasets together: DIR DIR …"
        )


def _tag(api: "HfApi", target: Target, commit: str) -> None:
    refs = api.list_repo_refs(target.repository, repo_type=KIND)
    tags: Mapping[str, str] = {ref.name: ref.target_commit for ref in refs.tags}
    tag = str(target.tag)
    if tag not in tags:
        api.create_tag(target.repository, tag=tag, revision=commit, repo_type=KIND)
    elif tags[tag] != commit:
        raise UsageError(
            f"{target.repository}: tag {tag} names the commit {tags[tag][:8]}, not {commit[:8]}; "
            "take another tag"
        )
