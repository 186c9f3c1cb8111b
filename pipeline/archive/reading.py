"""``Reader``: the bytes of refs, as views of mapped files; a folder's files are read one by one."""

import mmap
import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.errors import ArchiveError
from pipeline.records import Piece, Ref


class Reader:
    """Reads the pieces of refs from mapped files; maps each file once, on first use."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = dict(files)
        self._maps: dict[str, memoryview] = {}

    def piece(self, ref: Ref) -> Piece:
        """The bytes of a ref as a view of the map, nothing copied.

        A file of a folder is read whole and held no longer than its piece: there may be more of
        them than a process can hold open.

        Raises:
            ArchiveError: the ref lies outside its file, or the file of a folder is gone.
        """
        source, inside, name = ref.source.partition("/")
        whole = _loose(self._files[source] / name) if inside else self._map(source)
        stop = ref.offset + ref.size
        if ref.offset < 0 or ref.size < 0 or stop > len(whole):
            raise ArchiveError(
                f"{self._files[source] / name}: bytes {ref.offset} to {stop} were asked for, "
                f"but the file has {len(whole)}"
            )
        return Piece(whole[ref.offset : stop], ref.start, ref.stop)

    def _map(self, source: str) -> memoryview:
        if source not in self._maps:
            with self._files[source].open("rb") as handle:
                if os.fstat(handle.fileno()).st_size == 0:
                    self._maps[source] = memoryview(b"")
                else:
                    mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
                    self._maps[source] = memoryview(mapped)
        return self._maps[source]


def _loose(file: Path) -> memoryview:
    try:
        return memoryview(file.read_bytes())
    except OSError as error:
        raise ArchiveError(f"{file}: can't be read any more: {error.strerror}") from None
