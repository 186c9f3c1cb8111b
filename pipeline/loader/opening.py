"""``open_dataset``: the splits of a sealed dataset by name."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.dataset import Sealed, open_sealed
from pipeline.errors import unknown_name
from pipeline.holding import hold_for
from pipeline.loader.mapped import Held
from pipeline.loader.split import Split
from pipeline.publish.place import is_on_hub
from pipeline.publish.pull import bring_from_hub
from pipeline.remote import bring, is_url


def open_dataset(
    where: str | Path,
    normalize: bool = False,
    key: bool = False,
    labels: Sequence[str] | None = None,
    cache: str | Path | None = None,
) -> "Dataset":
    """Open a sealed dataset. No shard is read: each is mapped when its first example is asked for.

    Args:
        where: the directory or the URL (``s3://…``) that ``shardwell prepare`` named;
            ``hf://datasets/user/name[@revision][:config]`` for what ``shardwell publish`` sent,
            which is opened without the network where it was brought before and its commit is named
            or the Hub does not answer.
        normalize: subtract the mean and divide by the standard deviation of train, per bin.
        key: give every example's key, too.
        labels: those that examples come with; None for all.
        cache: where the verified copy of a dataset at a URL is kept (default
            ``~/.cache/shardwell``).

    Raises:
        DatasetError: not a sealed dataset, or a shard is missing or cut short.
        RemoteError: the store at the URL can't be read.
        UnknownNameError: there is no such label.
    """
    folder = local(where, Path(cache) if cache else None)
    sealed = open_sealed(folder)
    if is_url(where):  # shards of the copy are mapped when they are needed, so it must stay
        hold_for(sealed, folder)
    return Dataset(sealed, normalize, key, labels)


def local(where: str | Path, cache: Path | None = None) -> Path:
    """The folder of a dataset, or that of a verified copy of the one at a URL."""
    if is_url(where):
        return bring_from_hub(where, cache) if is_on_hub(where) else bring(where, cache)
    return Path(where)


class Dataset(Mapping[str, Split]):
    """The splits of a sealed dataset by name.

    Attributes:
        sealed: what ``dataset.json`` says.
        info: the whole of ``dataset.json``.
    """

    def __init__(
        self,
        sealed: Sealed,
        normalize: bool,
        key: bool,
        labels: Sequence[str] | None,
        held: Held | None = None,
    ) -> None:
        known = sealed.columns.labels
        for name in labels or ():
            if name not in known:
                raise unknown_name(f"label of {sealed.folder}", name, known)
        self.sealed = sealed
        self.info = sealed.info
        self._options = normalize, key, tuple(known if labels is None else labels), held

    def __getitem__(self, split: str) -> Split:
        if split not in self.sealed.splits:
            raise unknown_name(f"split of {self.sealed.folder}", split, self.sealed.splits)
        return Split(self.sealed, split, *self._options)

    def get(self, split: str, default: Any = None) -> Any:
        """The split, or ``default`` where the dataset has none of that name."""
        return self[split] if split in self.sealed.splits else default

    def __contains__(self, split: object) -> bool:
        return split in self.sealed.splits

    def __iter__(self) -> Iterator[str]:
        return iter(self.sealed.splits)

    def __len__(self) -> int:
        return len(self.sealed.splits)
