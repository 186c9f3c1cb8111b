"""200 numbered examples in 13 shards to be streamed, and what is read off a stream."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.dataset import open_sealed
from tests.sealed import write_sealed

ROOT = Path(__file__).parent.parent
ROWS, SHARDS, BATCH = 200, 13, 7


def write_numbered(folder: Path) -> Path:
    """A dataset of ROWS examples in SHARDS shards; row n holds n."""
    rows = [np.full((3, 40), n, np.float32) for n in range(ROWS)]
    return write_sealed(folder, rows, SHARDS, True)


def shard_bytes(folder: Path) -> int:
    """The size of its largest shard."""
    return max(shard.bytes for shard in open_sealed(folder).splits["train"])


def taken(cache: Path) -> int:
    """Bytes of all that lies in the cache, but reservations, which take none."""
    total = 0
    for path in (cache / "streamed").glob("*"):
        if not path.name.endswith(".room.part"):
            try:
                total += path.stat().st_size
            except FileNotFoundError:
                continue
    return total


def keys(loader: Any, count: int = 10**9) -> list[list[str]]:
    """The keys of the next batches."""
    return [batch["key"] for batch, _ in zip(iter(loader), range(count), strict=False)]


def flat(batches: list[list[Any]]) -> list[Any]:
    return [item for batch in batches for item in batch]


STREAMING = """
import json, sys
from pipeline.loader import stream
where, cache, state = sys.argv[1:]
options = {{"num_workers": 2, "key": True, "cache": cache, "cache_bytes": {most}}}
loader = stream(where, "train", 7, True, 2, **options)
if state:
    loader.load_state_dict(json.loads(state))
for _ in range(3):
    for batch in loader:
        print(json.dumps([batch["key"], loader.state_dict()]), flush=True)
"""


def streaming(where: str, cache: Path, state: str, most: int = 1 << 30) -> subprocess.Popen[str]:
    """A process that prints every batch's keys and the state after it, for three epochs."""
    return subprocess.Popen(
        [sys.executable, "-c", STREAMING.format(most=most), where, str(cache), state],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
