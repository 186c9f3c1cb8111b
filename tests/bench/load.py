"""Loading: samples per second of shuffled batches, ours beside a bare gather and the others' ways.

10,000 rows of 101×40 float32 with a class, batches of 128, one process with as many threads as
torch takes, files in the page cache; then rows of 100 to 1,000 × 80. Every way ends with tensors of
a padded batch. Rounds take turns, the best of each way counts, each after an epoch to warm up.
"""

import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pipeline.loader import make_loader, open_dataset
from pipeline.loader.order import BLOCK, Order
from pipeline.loader.turns import Batching, Place, Ranks, Turns
from tests.sealed import Floats, write_sealed

ROWS, FRAMES, BINS, BATCH, ROUNDS = 10_000, 101, 40, 128, 5
SLOW_ROWS = 2_560  # of an epoch of the slow ways
LONG_ROWS, LONG_BINS = 2_000, 80
SHARDS = 50

Epoch = Callable[[], Iterable[Any]]  # yields batches, whose first tensor tells their size


def ours(folder: Path, **options: Any) -> Epoch:
    loader = make_loader(
        open_dataset(folder, labels=["word"])["train"],
        **({"batch_size": BATCH, "shuffle": True} | options),
    )
    return lambda: loader


def bare_gather(features: Floats) -> Epoch:
    """NumPy's own, from one array in memory into a new one."""

    def epoch() -> Iterator[Any]:
        order = np.random.default_rng(0).permutation(len(features))
        for first in range(0, len(order), BATCH):
            yield (torch.from_numpy(features[order[first : first + BATCH]]),)

    return epoch


def bare_copies(rows: list[Floats]) -> Epoch:
    """Every row of a batch copied to the end of the one before, nothing padded."""
    order = np.random.default_rng(0).permutation(len(rows))

    def epoch() -> Iterator[Any]:
        for first in range(0, len(order), BATCH):
            chosen = order[first : first + BATCH]
            yield chosen, torch.from_numpy(np.concatenate([rows[i] for i in chosen]))

    return epoch


def padded_copies(rows: list[Floats]) -> Epoch:
    """``pad_sequence`` of torch."""
    tensors = [torch.from_numpy(row) for row in rows]
    order = np.random.default_rng(0).permutation(len(rows))

    def epoch() -> Iterator[Any]:
        for first in range(0, len(order), BATCH):
            chosen = [tensors[i] for i in order[first : first + BATCH]]
            yield (torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True),)

    return epoch


def hugging_face(folder: Path, features: Floats) -> Epoch:
    """``datasets`` in torch format, from its own Arrow file."""
    import datasets

    columns = datasets.Features(
        {
            "features": datasets.Array2D((FRAMES, BINS), "float32"),
            "word": datasets.Value("int64"),
        }
    )
    made = datasets.Dataset.from_generator(
        lambda: ({"features": row, "word": i % 35} for i, row in enumerate(features)),
        features=columns,
        cache_dir=str(folder / "hf"),
    ).with_format("torch")
    loader = torch.utils.data.DataLoader(made, BATCH, shuffle=True)
    return lambda: loader


def litdata(folder: Path, features: Floats) -> Epoch:
    """LitData's chunks by its own writer, reader and loader."""
    from litdata import StreamingDataLoader, StreamingDataset
    from litdata.streaming import Cache

    cache = Cache(str(folder / "litdata"), chunk_bytes="64MB")
    for i, row in enumerate(features):
        cache[i] = {"features": torch.from_numpy(row), "word": i % 35}
    cache.done()
    cache.merge()
    loader = StreamingDataLoader(
        StreamingDataset(str(folder / "litdata"), shuffle=True), batch_size=BATCH
    )
    return lambda: loader


def web_dataset(folder: Path, features: Floats) -> Epoch:
    """WebDataset's tar of ``.npy`` and ``.cls``, decoded, shuffled in a buffer, collated."""
    import webdataset

    (folder / "wds").mkdir()
    with webdataset.TarWriter(str(folder / "wds" / "0.tar")) as tar:
        for i, row in enumerate(features):
            tar.write({"__key__": f"{i:08d}", "npy": row, "cls": i % 35})
    made = (
        webdataset.WebDataset(str(folder / "wds" / "0.tar"), shardshuffle=False)
        .shuffle(1000)
        .decode()
        .to_tuple("npy", "cls")
        .batched(BATCH)
    )
    return lambda: made


class SameBatch(torch.utils.data.Dataset[Any]):
    """Batches that cost nothing to make: one that is copied."""

    def __init__(self) -> None:
        self.batch = {
            "features": torch.zeros(BATCH, FRAMES, BINS),
            "lengths": torch.zeros(BATCH, dtype=torch.int64),
            "word": torch.zeros(BATCH, dtype=torch.int64),
        }

    def __len__(self) -> int:
        return ROWS // BATCH

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        return {name: values.clone() for name, values in self.batch.items()}


def handing_over() -> Epoch:
    """What torch's workers take to hand such a batch over."""
    loader = torch.utils.data.DataLoader(SameBatch(), batch_size=None, num_workers=2)
    return lambda: loader


class Files(torch.utils.data.Dataset[Any]):
    """A folder of ``.npy``."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*.npy"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> dict[str, Any]:
        row = torch.from_numpy(np.load(self.paths[i]))
        return {"features": row, "word": i % 35}


def npy_files(folder: Path, features: Floats) -> Epoch:
    """One file per row, with torch's own loader and collate."""
    (folder / "npy").mkdir()
    for i, row in enumerate(features):
        np.save(folder / "npy" / f"{i:08d}.npy", row)
    loader = torch.utils.data.DataLoader(Files(folder / "npy"), BATCH, shuffle=True)
    return lambda: loader


def rate(epoch: Epoch, most: int) -> float:
    """Samples per second of an epoch, or of its first batches with ``most`` samples."""
    served, begin = 0, time.perf_counter()
    for batch in epoch():
        served += len(batch["features"] if isinstance(batch, dict) else batch[0])
        if served >= most:
            break
    return served / (time.perf_counter() - begin)


def measured(ways: dict[str, Epoch], slow: frozenset[str] = frozenset()) -> dict[str, float]:
    """The best rate of every way, by turns."""
    found = dict.fromkeys(ways, 0.0)
    for turn in range(ROUNDS + 1):
        for name, epoch in ways.items():
            speed = rate(epoch, SLOW_ROWS if name in slow else 10**9)
            if turn:  # the first is to warm up
                found[name] = max(found[name], speed)
    return found


def table(found: dict[str, float], bare: str) -> None:
    """Rates as a table, beside the bare one's and ours."""
    first = next(iter(found))
    print(f"\n| way | samples/s | of {bare} | {first} is so many times as fast |")
    print("|---|---|---|---|")
    for name, speed in found.items():
        print(f"| {name} | {speed:,.0f} | {speed / found[bare]:.2f} | {found[first] / speed:.1f} |")


def run() -> None:
    """Print the tables."""
    folder = Path(tempfile.mkdtemp(prefix="shardwell-bench-"))
    try:
        fixed(folder)
        variable(folder)
        opening(folder)
        simulation()
    finally:
        shutil.rmtree(folder)


def fixed(folder: Path) -> None:
    """Rows of one shape."""
    features = np.random.default_rng(0).standard_normal((ROWS, FRAMES, BINS), np.float32)
    one = write_sealed(folder / "one", list(features), 1, True)
    many = write_sealed(folder / "many", list(features), SHARDS, True)
    slow = {
        "datasets": hugging_face(folder, features),
        "litdata": litdata(folder, features),
        "webdataset": web_dataset(folder, features),
        "npy files": npy_files(folder, features),
    }
    ways = {
        "shardwell, one shard": ours(one),
        f"shardwell, {SHARDS} shards": ours(many),
        "bare NumPy gather": bare_gather(features),
        "shardwell, two workers": ours(one, num_workers=2),
        "torch's workers, one batch copied": handing_over(),
    } | slow
    table(measured(ways, frozenset(slow)), "bare NumPy gather")


def variable(folder: Path) -> None:
    """Rows of many lengths."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.normal(560, 190, LONG_ROWS), 100, 1000).astype(int)
    rows = [rng.standard_normal((n, LONG_BINS), np.float32) for n in lengths.tolist()]
    long = write_sealed(folder / "long", rows, 20, False)
    ways = {
        "shardwell, lengths in buckets": ours(long, window=LONG_ROWS),
        "shardwell, any lengths": ours(long),
        "bare copy, nothing padded": bare_copies(rows),
        "torch's pad_sequence": padded_copies(rows),
    }
    table(measured(ways), "bare copy, nothing padded")
    for name, options in (
        ("random order", {}),
        ("buckets of 32", {"window": 8192}),
        ("20,000 frames", {"batch_size": None, "max_frames": 20_000}),
    ):
        loader = make_loader(
            open_dataset(long)["train"], **({"batch_size": 32, "shuffle": True} | options)
        )
        padded = sum(batch["features"].shape[0] * batch["features"].shape[1] for batch in loader)
        print(f"padding, {name}: {1 - lengths.sum() / padded:.1%}")


def opening(folder: Path) -> None:
    """A million small rows in a thousand shards."""
    rows: npt.NDArray[np.float32] = np.zeros((1_000_000, 1, BINS), np.float32)
    large = write_sealed(folder / "large", list(rows), 1000, True)
    begin = time.perf_counter()
    split = open_dataset(large)["train"]
    opened = time.perf_counter()
    next(iter(make_loader(split, BATCH, shuffle=True)))
    print(f"\n1,000 shards, {len(split):,} rows: open {1e3 * (opened - begin):.0f} ms, ", end="")
    print(f"first batch after it {1e3 * (time.perf_counter() - opened):.0f} ms")


def simulation() -> None:
    """A billion rows in 100,000 shards for 1,024 ranks: what the order takes, no data at hand."""
    rows, world, machine = 10**9, 1024, 8
    ways = {
        "any batches": ("examples", Batching(BATCH)),
        "blocks": ("blocks", Batching(BATCH)),
        "buckets of a fixed size": ("examples", Batching(BATCH, window=8192)),
        "buckets by frames": ("examples", Batching(None, 60_000, 8192)),
    }
    print(f"\n| {rows:,} rows, {world:,} ranks | first batch ms | each of the next µs | ", end="")
    print(f"memory kB | reads per batch, {machine} ranks a machine |\n|---|---|---|---|---|")
    for name, (shuffle, batching) in ways.items():
        order = Order(rows, shuffle, 0)

        def turns(rank: int, order: Order = order, batching: Batching = batching) -> Turns:
            return Turns(order, batching, Ranks(rank, world), lambda examples: examples % 900)

        def stream(rank: int, turns: Callable[[int], Turns] = turns) -> Iterator[Any]:
            return turns(rank).served(Place(3))

        begin = time.perf_counter()
        batches = stream(517)
        next(batches)
        first = time.perf_counter()
        served = [next(batches) for _ in range(100)]
        each = (time.perf_counter() - first) / len(served)
        tracemalloc.start()
        for _ in islice(stream(517), 10):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        reads = reads_per_batch([stream(rank) for rank in range(machine)], 8)
        print(f"| {name} | {1e3 * (first - begin):.1f} | {1e6 * each:,.0f} | ", end="")
        print(f"{peak / 1e3:,.0f} | {reads:.1f} |")


def reads_per_batch(streams: list[Iterator[Any]], rounds: int) -> float:
    """Runs of consecutive examples that a machine's ranks read, by the batch; each is read once."""
    served = [next(stream)[0] for _ in range(rounds) for stream in streams]
    examples = np.unique(np.concatenate(served))
    return float(np.count_nonzero(np.diff(examples // BLOCK))) / len(served)
