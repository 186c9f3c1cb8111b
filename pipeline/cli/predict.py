"""``shardwell predict``: what a saved model hears in audio files."""

import argparse
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli import text
from pipeline.errors import ClipError, UsageError, printable

if TYPE_CHECKING:
    from pipeline.train.checkpoint import Saved
    from pipeline.train.fusion import Fusion

ANSWERS = {"class": 3, "text": 1}  # that are told unless another number is asked for


def add(commands: Any) -> None:
    """Declare ``shardwell predict``."""
    parser = text.command(
        commands,
        "predict",
        "tell what a saved model hears in audio files",
        "shardwell predict runs/speech_commands-v2-35-bcresnet-* clip.wav",
        run,
    )
    text.add_model(parser)
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="audio files: WAV, FLAC, OGG, MP3 …"
    )
    parser.add_argument(
        "--top",
        type=int,
        metavar="N",
        help="how many answers per file (default: 3 classes, or 1 transcript)",
    )
    parser.add_argument(
        "--lm",
        type=text.folder,
        metavar="ARPA",
        help="a language model of words, for a model that transcribes",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        default=1.0,
        metavar="X",
        help="weight of the language model (default 1)",
    )
    parser.add_argument(
        "--beta",
        type=float,
        default=2.0,
        metavar="X",
        help="what each word adds to a transcript's score (default 2)",
    )
    parser.add_argument(
        "--stream", action="store_true", help="hear each file chunk by chunk, as from a microphone"
    )
    parser.add_argument(
        "--chunk",
        type=float,
        default=0.1,
        metavar="S",
        help="length of a chunk in seconds (default 0.1)",
    )
    text.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """A line per file; exit 1 where one could not be read."""
    from pipeline.train.checkpoint import load
    from pipeline.train.predict import predict, task_of

    if args.top is not None and args.top < 1:
        raise UsageError(f"--top {args.top}: expected at least 1")
    if not 0 < args.chunk < math.inf:
        raise UsageError(f"--chunk {args.chunk}: expected a number of seconds above 0")
    saved, failed, rows = load(args.model), False, []
    fusion = _fusion(args)
    most = args.top or ANSWERS[task_of(saved).label]
    if args.stream:
        return _stream(saved, args, most, fusion)
    for found in predict(saved, args.files, most, fusion):
        failed = failed or found.problem is not None
        rows.append({k: v for k, v in vars(found).items() if v})
        if found.problem:
            text.complain(f"{found.file}: {found.problem}")
        elif not args.json:
            print(printable(f"{found.file}  {_answers(found.best)}"), flush=True)
    if args.json:
        text.print_json(rows)
    return 1 if failed else 0


def _fusion(args: argparse.Namespace) -> "Fusion | None":
    from pipeline.train.arpa import read_arpa
    from pipeline.train.fusion import fuse

    return fuse(read_arpa(args.lm), args.alpha, args.beta) if args.lm else None


def _stream(saved: "Saved", args: argparse.Namespace, most: int, fusion: "Fusion | None") -> int:
    """The last answer of each file, the time that chunks took, and their share of real time.

    One thread computes: on chunks, several wait for one another longer than they work.
    """
    import torch

    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for file in args.files:
        try:
            row = _heard(saved, file, args.chunk, most, fusion)
        except ClipError as error:
            text.complain(f"{file}: {error}")
            continue
        rows.append(row)
        if not args.json:
            told = (
                f"{file}  {_answers(row['best'])}  {row['chunks']} chunks: median "
                f"{row['median_ms']:.1f} ms, worst {row['worst_ms']:.1f} ms, "
                f"real-time factor {row['real_time_factor']:.3f}"
            )
            print(printable(told))
    if args.json:
        text.print_json(rows)
    return 0 if len(rows) == len(args.files) else 1


def _heard(
    saved: "Saved", file: Path, chunk: float, most: int, fusion: "Fusion | None"
) -> dict[str, Any]:
    """What a stream says at the end of a file, and how long its chunks took."""
    from pipeline.train.predict import stream

    took, best = [], None
    begun = time.perf_counter()
    for heard in stream(saved, file, chunk, most, fusion):
        took.append(time.perf_counter() - begun)
        best = heard.best
        begun = time.perf_counter()
    own = sorted(took[1:] or took)  # the first opens the file, too
    return {
        "file": str(file),
        "best": best,
        "chunks": len(took),
        "median_ms": 1000 * own[len(own) // 2],
        "worst_ms": 1000 * own[-1],
        "real_time_factor": sum(own) / len(own) / chunk,
    }


def _answers(best: Any) -> str:
    if len(best) == 1:
        return str(best[0][0])
    return "  ".join(f"{name} {share:.3f}" for name, share in best)
