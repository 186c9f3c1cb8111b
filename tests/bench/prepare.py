"""Preparing: from a tar.gz of one-second clips to 40 MFCC on disk, ours against the others' ways.

Everyone starts from the same tar.gz with empty caches and two processes, and ends with features on
disk that are ready to load. Whole processes are timed, start-up included, at two sizes; the slope
between them is the figure of merit (Lhotse's between smaller ones: it takes minutes). The limit is
bare inflating, bare decoding and bare FFT with filters in one process, divided by two. Then ours
alone: once more with nothing to do, at the size of Speech Commands v0.02, from a tar.bz2 in
LJSpeech's layout beside bare inflating, and planning ten million examples.
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench.processes import measured

SIZES, LHOTSE_SIZES, ROUNDS, WORKERS = (10_000, 40_000), (1_000, 4_000), 3, 2
LARGE, PLANNED, PHRASES = 105_000, 10_000_000, 4_500
OURS = {
    "shardwell": ["speech_commands"],
    "bz2_log_mel": ["ljspeech", "--features", "log_mel@hifigan"],
}
SIZES_OF_FRAMES = {"n_fft": 400, "win_length": 400, "hop_length": 160}


def extracted(archive: Path, work: Path) -> list[str]:
    """All clips as files, by GNU tar."""
    folder = work / "clips"
    folder.mkdir()
    subprocess.run(["tar", "-xzf", str(archive), "-C", str(folder)], check=True)
    return sorted(str(path) for path in folder.rglob("*.wav"))


def _mfcc() -> Callable[..., object]:
    """Torchaudio's transform, one thread."""
    import torch

    from pipeline.importing import torchaudio

    torch.set_num_threads(1)
    transform: Callable[..., object] = torchaudio().transforms.MFCC(
        16000, 40, melkwargs={"n_mels": 64, **SIZES_OF_FRAMES}
    )
    return transform


TRANSFORM: list[Callable[..., object]] = []  # of this process


def _begin() -> None:
    TRANSFORM.append(_mfcc())


def _one_npy(path: str) -> None:
    import numpy as np
    import soundfile
    import torch

    samples, _ = soundfile.read(path, dtype="float32")
    features = TRANSFORM[0](torch.from_numpy(samples))
    np.save(path.removesuffix(".wav") + ".npy", features.numpy())  # type: ignore[attr-defined]


def torchaudio_pool(archive: Path, work: Path) -> None:
    """Extraction, then a pool of two processes: read, transform, save ``.npy``, clip by clip."""
    import multiprocessing

    paths = extracted(archive, work)
    _mfcc()  # what the forked workers share is imported once
    with multiprocessing.get_context("fork").Pool(WORKERS, _begin) as pool:
        for _ in pool.imap_unordered(_one_npy, paths, chunksize=64):
            pass


def _batch(batch: dict[str, list[str]]) -> dict[str, object]:
    import numpy as np
    import soundfile
    import torch

    if not TRANSFORM:
        _begin()
    samples = np.stack([soundfile.read(path, dtype="float32")[0] for path in batch["path"]])
    features = TRANSFORM[0](torch.from_numpy(samples))
    return {"features": features.numpy()}  # type: ignore[attr-defined]


def datasets_map(archive: Path, work: Path) -> None:
    """Extraction, then ``datasets.Dataset.map`` in batches with two processes; its Arrow cache."""
    from datasets import Array2D, Dataset, Features, Value

    paths = extracted(archive, work)
    columns = Features({"path": Value("string"), "features": Array2D((40, 101), "float32")})
    Dataset.from_dict({"path": paths}).map(
        _batch,
        batched=True,
        batch_size=32,
        num_proc=WORKERS,
        features=columns,
        cache_file_name=str(work / "features.arrow"),
    )


def lhotse(archive: Path, work: Path) -> None:
    """Extraction, then Lhotse's ``compute_and_store_features`` with two jobs."""
    from lhotse import CutSet, Mfcc, MfccConfig, RecordingSet

    extracted(archive, work)
    recordings = RecordingSet.from_dir(work / "clips", "*.wav", num_jobs=WORKERS)
    cuts = CutSet.from_manifests(recordings=recordings)
    config = MfccConfig(sampling_rate=16000, num_filters=64, num_ceps=40)
    cuts.compute_and_store_features(Mfcc(config), work / "features", num_jobs=WORKERS)


def limit(archive: Path, work: Path) -> None:
    """Bare inflating, bare decoding, bare FFT and filters, one after the other in one thread."""
    import numpy as np
    import torch
    from isal import igzip

    torch.set_num_threads(1)
    clips = int(archive.name.partition("-")[2].partition(".")[0])
    with igzip.open(archive, "rb") as plain:
        while plain.read(1 << 20):
            pass
    pcm = np.zeros((32, 16000), np.int16)
    frames = torch.rand(32 * 101, 400)
    filters = torch.rand(201, 64)
    for _ in range(clips // 32):
        _ = pcm.astype(np.float32) / 32768
        spectrum = torch.view_as_real(torch.fft.rfft(frames))
        _ = spectrum.square().sum(-1) @ filters


def bz2_inflating(archive: Path, work: Path) -> None:
    """Bare parallel inflating."""
    import indexed_bzip2

    with indexed_bzip2.open(str(archive), parallelization=WORKERS) as plain:
        while plain.read(1 << 20):
            pass


def planning(archive: Path, work: Path) -> None:
    """The plan of ten million made-up examples."""
    from pipeline.audio import Audio
    from pipeline.features import Mfcc
    from pipeline.plan import write_plan
    from pipeline.records import Example, Ref

    examples = (
        Example(
            f"word{i % 35}/{i // 35:08x}_nohash_0",
            "train",
            (Ref("main", 33_280 * i, 32_044),),
            {"word": f"word{i % 35}", "speaker": f"{i // 35:08x}"},
        )
        for i in range(PLANNED)
    )
    labels = {"word": "class", "speaker": "text"}
    write_plan(work / "plan.arrow", examples, labels, Mfcc.at(16000), Audio(16000, duration=1.0))


OTHERS = (torchaudio_pool, datasets_map, lhotse, limit, bz2_inflating, planning)
WAYS = {way.__name__: way for way in OTHERS}


def command_of(way: str, archive: Path, work: Path) -> list[str]:
    """Ours as a person gives it; the others as this module."""
    if way not in OURS:
        return [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "tests.bench.prepare",
            way,
            str(archive),
            str(work),
        ]
    manifest = str(archive.with_suffix(".toml"))
    places = ["--cache", str(work / "cache"), "--out", str(work / "data")]
    sources = ["--manifest", manifest, "--source", f"archive={archive}"]
    program = [str(Path(sys.executable).with_name("shardwell")), "prepare"]
    return [*program, *OURS[way], *sources, *places, "--workers", str(WORKERS), "--quiet"]


def timed(way: str, archive: Path, work: Path) -> tuple[float, int]:
    """Seconds of a whole process, and the peak of its memory, or of a worker's, in MB."""
    places = {"HF_HOME": str(work), "HF_HUB_OFFLINE": "1", "TMPDIR": str(work)}
    return measured(command_of(way, archive, work), work / "log", places)


def once(way: str, archive: Path, folder: Path) -> float:
    """Seconds with every cache empty."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        return timed(way, archive, Path(work))[0]


def run() -> None:
    """Print the tables."""
    folder = Path(tempfile.mkdtemp(prefix="shardwell-bench-"))
    try:
        compare(folder)
        alone(folder)
    finally:
        shutil.rmtree(folder)


def compare(folder: Path) -> None:
    """Everybody's way, the ways taking turns."""
    from tests.bench.corpora import speech_commands

    archives = {n: folder / f"clips-{n}.tar.gz" for n in (*SIZES, *LHOTSE_SIZES)}
    for n, archive in archives.items():
        speech_commands(archive, n)
    ways = ("shardwell", "torchaudio_pool", "datasets_map", "lhotse", "limit")
    sizes = {way: LHOTSE_SIZES if way == "lhotse" else SIZES for way in ways}
    rounds = [
        {(way, n): once(way, archives[n], folder) for way in sizes for n in sizes[way]}
        for _ in range(ROUNDS)
    ]
    found = {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
    slopes = {
        way: (found[way, many] - found[way, few]) / (many - few) * 1e6
        for way, (few, many) in sizes.items()
    }
    slopes["limit"] /= WORKERS
    print("\n| way | clips | s | clips | s | µs per further clip | times shardwell |")
    print("|---|---|---|---|---|---|---|")
    for way, own in sizes.items():
        cells = " | ".join(f"{n:,} | {found[way, n]:.1f}" for n in own)
        print(f"| {way} | {cells} | {slopes[way]:.0f} | {slopes[way] / slopes['shardwell']:.2f} |")


def alone(folder: Path) -> None:
    """What only ours is asked for."""
    from tests.bench.corpora import ljspeech, speech_commands

    print("\n| shardwell | s | driver's memory MB |\n|---|---|---|")
    many = folder / f"clips-{LARGE}.tar.gz"
    speech_commands(many, LARGE)
    phrases = folder / f"phrases-{PHRASES}.tar.bz2"
    hours = ljspeech(phrases, PHRASES) / 3600
    with tempfile.TemporaryDirectory(dir=folder) as work:
        _line(f"{LARGE:,} clips", *timed("shardwell", many, Path(work)))
        _line("the same, up to date", *timed("shardwell", many, Path(work)))
    with tempfile.TemporaryDirectory(dir=folder) as work:
        _line(f"tar.bz2 of {hours:.1f} h to log-mel", *timed("bz2_log_mel", phrases, Path(work)))
        _line("bare inflating of it", *timed("bz2_inflating", phrases, Path(work)))
        _line(f"planning {PLANNED:,} examples", *timed("planning", phrases, Path(work)))


def _line(what: str, seconds: float, megabytes: int) -> None:
    print(f"| {what} | {seconds:.2f} | {megabytes} |", flush=True)


if __name__ == "__main__":
    WAYS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
