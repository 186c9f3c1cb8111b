"""The machine: cores, disks, limits, and whether a Hub would know us."""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from pipeline.contents import contents
from pipeline.cores import usable_cores
from pipeline.doctor.finding import FAIL, OK, STATES, WARN, Finding
from pipeline.errors import UsageError

GB = 10**9
ROOM = 10 * GB  # Speech Commands takes 8 GB with its download and inflated archive
LEAST_ROOM = GB // 10
FEW_FILES = 1024
SMALL_SHM = GB
SHM = Path("/dev/shm")  # noqa: S108 (torch hands batches over there)


def cores() -> Finding:
    """How many processes prepare starts, and whether they are all that the machine has."""
    number = usable_cores()
    return Finding(OK, f"{number} usable: so many workers prepare, unless told otherwise")


def output(out: Path | str) -> Finding:
    """Whether datasets can be written, and how much room they have."""
    if isinstance(out, str) and "://" in out:
        return Finding(OK, f"{out}: a store, which `prepare` tries before any work")
    return _room(Path(out), "choose another folder with --out", unwritable=FAIL)


def cache(folder: Path) -> Finding:
    """Whether the cache can be written, what it holds, and how much room it has."""
    found = _room(folder, "choose another folder with --cache", unwritable=WARN)
    try:
        held = sum(item.bytes for item in contents(folder, {}))
    except OSError as error:  # we may not even look into it
        remedy = "choose another folder with --cache"
        return found if found.remedy else Finding(WARN, f"{folder}: {error.strerror}", remedy)
    except UsageError:  # prepare can work there, but nobody could clean it
        remedy = found.remedy or "give it a folder of its own with --cache"
        return Finding(
            max(found.state, WARN, key=STATES.index), f"{found.found}, not ours alone", remedy
        )
    remedy = f"{found.remedy}, or see: shardwell cache" if found.remedy else ""
    return Finding(found.state, f"{found.found}, {held / GB:.1f} GB held", remedy)


def _room(folder: Path, remedy: str, unwritable: str) -> Finding:
    try:
        there = _nearest(folder.absolute())
        free = shutil.disk_usage(there).free
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Finding(unwritable, f"{folder}: can't be written: {error.strerror}", remedy)
    found = f"{folder}: {free / GB:.1f} GB free"
    if free < LEAST_ROOM:
        return Finding(FAIL, found, f"make room, or {remedy}")
    if free < ROOM:
        return Finding(WARN, f"{found}; Speech Commands needs 8", f"make room, or {remedy}")
    return Finding(OK, found)


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there.

    Raises:
        OSError: nobody can tell, as below a folder that we may not enter.
    """
    for path in (folder, *folder.parents):
        with suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
            return path
    return Path(folder.anchor)


def open_files() -> Finding:
    """How many files a process may have open: workers and connections need them, shards don't."""
    try:
        import resource
    except ImportError:
        return Finding(OK, "no limit on this system")
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < FEW_FILES:  # -1 is no limit
        return Finding(WARN, f"at most {soft:,}", "raise the limit: ulimit -n 4096")
    return Finding(OK, "any number" if soft < 0 else f"at most {soft:,}")


def shared_memory() -> Finding:
    """Room for the batches that torch's workers hand over."""
    if not SHM.is_dir():
        return Finding(OK, "this system needs no /dev/shm")
    size = shutil.disk_usage(SHM).total
    if size < SMALL_SHM:
        remedy = "docker run --shm-size=2g, or load with num_workers=0, which is as fast"
        return Finding(WARN, f"{size / 10**6:.0f} MB in {SHM}, little for workers", remedy)
    return Finding(OK, f"{size / GB:.1f} GB in {SHM}")


def hub_token() -> Finding:
    """Whether there is a token for publishing; it is never shown, and not tried."""
    from huggingface_hub import get_token

    if get_token() is None:
        return Finding(OK, "none; to publish, first: hf auth login, or set HF_TOKEN")
    return Finding(OK, "there is one")
