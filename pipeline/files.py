"""Files that are whole or absent: written beside their place, flushed, renamed; and hashes.

Temporary names begin with a dot and end in ``.part``, so that whatever a killed run left behind can
be told and cleaned.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

CHUNK = 1 << 20


@contextlib.contextmanager
def written(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it becomes ``path`` when the block ends without an error.

    What was written is flushed to the disk before it gets its name, so that a finished name never
    stands for half a file, not even after a power cut. The folder is made if it is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb+") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        # Writing to an open file does not name it in its error; a person needs to know the disk.
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON, whole or not at all; NaN is refused."""
    with written(path) as temporary, temporary.open("w", encoding="utf-8") as out:
        json.dump(values, out, indent=1, ensure_ascii=False, allow_nan=False)
        out.write("\n")


def sha256_of(path: Path, tick: Callable[[int], object] = lambda done: None) -> str:
    """A file's sha256 (hex); ``tick`` is called with the bytes done since the last call."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as handle:
        while chunk := handle.read(CHUNK):
            digest.update(chunk)
            tick(len(chunk))
    return digest.hexdigest()
