"""Whether a worker that runs elsewhere would make the same shards: its code, libraries and files.

The driver notes what it has; every worker compares before its first task. What differs is one line
that says what to do about it.
"""

import hashlib
import importlib.metadata
import platform
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.build import Job, versions
from pipeline.engines import Probe
from pipeline.errors import BuildError, ClipError, RemoteError
from pipeline.remote import remove, upload

TRIAL = 16_000  # samples of noise whose features are compared


@dataclass(frozen=True)
class Expected:
    """What a worker must have in common with the driver.

    Attributes:
        libraries: name → version, with Python's and shardwell's own.
        trial: the sha256 (hex) of the features of some noise, which tells processors that round in
            another way.
        sizes: bytes of every file that is read; 0 of a folder of them.
        marker: a file that the driver wrote beside the shards.
        url: where the shards go instead, or None.
    """

    libraries: Mapping[str, str]
    trial: str
    sizes: Mapping[Path, int | None]
    marker: Path
    url: str | None


def probe_of(job: Job, url: str | None) -> Probe:
    """What ``run`` calls in every worker; writes the marker, which is removed at sealing.

    Raises (in a worker):
        BuildError: it would not make the same shards, or can't read or write what it must.
    """
    marker = job.folder / f".probe.{secrets.token_hex(4)}.part"
    marker.touch()
    plan = () if url else (job.plan,)  # its rows travel with the tasks
    files = (*plan, job.recipe, *job.files.values())
    sizes = {path: _size(path) for path in files}
    return partial(_probe, job, Expected(_libraries(job), _trial(job), sizes, marker, url))


def _probe(job: Job, expected: Expected) -> None:
    """Every kind of thing that may lack is looked at, all that lack of a kind are named."""
    here = f"on {socket.gethostname()}"
    found = _libraries(job)
    other = [
        f"{name} {found.get(name)} (expected {wanted})"
        for name, wanted in expected.libraries.items()
        if found.get(name) != wanted
    ]
    if other:
        raise BuildError(
            f"{here}: {', '.join(other)}; a dataset comes of one set of versions: "
            "install the same there"
        )
    lost = [f"{path}" for path, size in expected.sizes.items() if _size(path) != size]
    if lost:
        raise BuildError(
            f"{here}: can't read {', '.join(lost)} as it is here; mount the folders at the same "
            "paths there, or copy the files there"
        )
    if expected.url:
        _try_upload(job.folder, expected.url, here)
    elif not _writable(expected.marker):
        raise BuildError(
            f"{here}: can't write {expected.marker.parent} as seen from here; mount it at the same "
            "path there, or let shards travel with --out s3://BUCKET/PREFIX"
        )
    if _trial(job) != expected.trial:
        raise BuildError(
            f"{here}: its processor ({platform.machine()}) rounds features in another way; "
            "run this command on a machine like the workers, and take workers of one kind"
        )


def _libraries(job: Job) -> dict[str, str]:
    own = {"shardwell": f"{importlib.metadata.version('shardwell')}+{_code()}"}
    python = {"python": ".".join(platform.python_version_tuple()[:2])}
    return own | python | versions(job)


def _code() -> str:
    """8 hex digits of shardwell's own code: two checkouts of one version may differ."""
    package, digest = Path(__file__).parent, hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def _trial(job: Job) -> str:
    """The sha256 of the features of noise; of nothing for data that is no audio."""
    if job.audio is None:
        return ""
    noise = np.random.default_rng(0).integers(-20_000, 20_000, (2, TRIAL)).astype(np.float32)
    try:
        features = job.feature.apply(noise / 32_768)
    except ClipError:  # of so long a window that the noise is too short
        return ""
    return hashlib.sha256(np.ascontiguousarray(features).tobytes()).hexdigest()


def _size(path: Path) -> int | None:
    try:
        if path.is_dir():
            return 0
        with path.open("rb") as file:
            file.read(1)
        return path.stat().st_size
    except OSError:
        return None


def _writable(marker: Path) -> bool:
    """Whether this is the driver's folder, and a file can be written in it."""
    trial = marker.with_name(f".probe.{secrets.token_hex(4)}.part")
    try:
        if not marker.exists():
            return False
        trial.write_bytes(b"\0")
        trial.unlink()
    except OSError:
        return False
    return True


def _try_upload(scratch: Path, url: str, here: str) -> None:
    name = f".probe.{secrets.token_hex(4)}.part"
    try:
        scratch.mkdir(parents=True, exist_ok=True)
        (scratch / name).write_bytes(b"\0")
        upload(scratch / name, f"{url}/{name}")
        remove(f"{url}/{name}")
        (scratch / name).unlink()
    except (OSError, RemoteError) as error:
        raise BuildError(
            f"{here}: {error}; the worker needs room in {scratch}, and the same credentials and "
            "endpoint as here"
        ) from None
