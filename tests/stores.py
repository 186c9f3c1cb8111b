"""A store in memory that notes what is fetched, and breaks off where it is told to."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.remote import upload


class Counted(MemoryFileSystem):
    """Its URLs begin with ``counted://``.

    Attributes:
        fetched: the names of files that were fetched, without their endings.
        breaks: those whose fetching ends in the middle.
    """

    protocol = "counted"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    fetched: list[str] = []  # noqa: RUF012
    breaks: set[str] = set()  # noqa: RUF012

    def get_file(self, rpath: str, lpath: str, *args: Any, **kwargs: Any) -> None:
        name = Path(rpath).stem
        self.fetched.append(name)
        if name in self.breaks:
            Path(lpath).write_bytes(self.cat_file(rpath)[:1000])
            raise ConnectionResetError("connection\nlost")
        super().get_file(rpath, lpath, *args, **kwargs)


@contextlib.contextmanager
def counted_store(folder: Path) -> Iterator[str]:
    """The URL of a copy of a dataset in a ``Counted`` store."""
    fsspec.register_implementation("counted", Counted, clobber=True)
    url = "counted://bucket/data"
    for file in folder.iterdir():
        upload(file, f"{url}/{file.name}")
    try:
        yield url
    finally:
        for kept in (Counted.store, Counted.fetched, Counted.breaks):
            kept.clear()
