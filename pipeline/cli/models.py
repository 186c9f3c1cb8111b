"""``shardwell evaluate``, ``predict`` and ``export-onnx``: saved models at work."""

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli import text
from pipeline.errors import ClipError, UsageError

if TYPE_CHECKING:
    from pipeline.train.checkpoint import Saved


def add_evaluate(commands: Any) -> None:
    """Declare ``shardwell evaluate``."""
    parser = text.command(
        commands,
        "evaluate",
        "score a saved model on a split of a dataset",
        "shardwell evaluate runs/mnist-standard-lstm-* data/mnist/standard-pixels-*",
        run_evaluate,
    )
    _add_model(parser)
    parser.add_argument(
        "where", type=text.place, metavar="DIR", help="a sealed dataset, or its URL"
    )
    parser.add_argument("--split", default="test", metavar="NAME", help="the split (default test)")
    parser.add_argument(
        "--robustness",
        action="store_true",
        help="also under noise, at other speeds and for unseen speakers; needs waveforms",
    )
    parser.add_argument(
        "--cache",
        type=text.folder,
        metavar="DIR",
        help="where a copy of a dataset at a URL is kept",
    )
    text.add_json(parser)


def run_evaluate(args: argparse.Namespace) -> int:
    """Print the scores, or a line for each condition."""
    from pipeline.loader import open_dataset
    from pipeline.train.checkpoint import load
    from pipeline.train.predict import evaluated
    from pipeline.train.robustness import robustness

    saved, data = load(args.model), open_dataset(args.where, cache=args.cache)
    if args.robustness:
        rows = []
        for row in robustness(saved, data, args.split):
            rows.append(vars(row))
            if not args.json:
                print(f"{row.name:<26} {row.score:.3f}   {text.count(row.examples)}", flush=True)
        if args.json:
            text.print_json(rows)
        return 0
    found = evaluated(saved, data, args.split)
    if args.json:
        text.print_json({"split": args.split, "examples": len(found.truths), **found.scores})
    else:
        print(" · ".join(f"{name} {value:.4f}" for name, value in found.scores.items()))
    return 0


def add_predict(commands: Any) -> None:
    """Declare ``shardwell predict``."""
    parser = text.command(
        commands,
        "predict",
        "tell what a saved model hears in audio files",
        "shardwell predict runs/speech_commands-v2-35-bcresnet-* clip.wav",
        run_predict,
    )
    _add_model(parser)
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="audio files: WAV, FLAC, OGG, MP3 …"
    )
    parser.add_argument(
        "--top", type=int, default=3, metavar="N", help="how many answers per file (default 3)"
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


def run_predict(args: argparse.Namespace) -> int:
    """A line per file; exit 1 where one could not be read."""
    from pipeline.train.checkpoint import load
    from pipeline.train.predict import predict

    if args.top < 1 or not args.chunk > 0:
        raise UsageError(f"--top {args.top} --chunk {args.chunk}: expected both above 0")
    saved, failed, rows = load(args.model), False, []
    if args.stream:
        return _stream(saved, args)
    for found in predict(saved, args.files, args.top):
        failed = failed or found.problem is not None
        rows.append({k: v for k, v in vars(found).items() if v})
        if found.problem:
            print(f"shardwell: {found.file}: {found.problem}", file=sys.stderr)
        elif not args.json:
            print(f"{found.file}  {_answers(found.best)}", flush=True)
    if args.json:
        text.print_json(rows)
    return 1 if failed else 0


def _stream(saved: "Saved", args: argparse.Namespace) -> int:
    """The last answer of each file, the time that chunks took, and their share of real time.

    One thread computes: on chunks, several wait for one another longer than they work.
    """
    import torch

    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for file in args.files:
        try:
            row = _heard(saved, file, args)
        except ClipError as error:
            print(f"shardwell: {file}: {error}", file=sys.stderr)
            continue
        rows.append(row)
        if not args.json:
            print(
                f"{file}  {_answers(row['best'])}  {row['chunks']} chunks: median "
                f"{row['median_ms']:.1f} ms, worst {row['worst_ms']:.1f} ms, "
                f"real-time factor {row['real_time_factor']:.3f}"
            )
    if args.json:
        text.print_json(rows)
    return 0 if len(rows) == len(args.files) else 1


def _heard(saved: "Saved", file: Path, args: argparse.Namespace) -> dict[str, Any]:
    """What a stream says at the end of a file, and how long its chunks took."""
    from pipeline.train.predict import stream

    took, best = [], None
    begun = time.perf_counter()
    for heard in stream(saved, file, args.chunk, args.top):
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
        "real_time_factor": sum(own) / len(own) / args.chunk,
    }


def _answers(best: Any) -> str:
    return "  ".join(f"{name} {share:.3f}" for name, share in best)


def add_export(commands: Any) -> None:
    """Declare ``shardwell export-onnx``."""
    parser = text.command(
        commands,
        "export-onnx",
        "write a saved model as ONNX: raw samples go in, its features are inside",
        "shardwell export-onnx runs/speech_commands-v2-35-bcresnet-*",
        run_export,
    )
    _add_model(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="file to write (default: model.onnx in the run's folder)",
    )


def run_export(args: argparse.Namespace) -> int:
    """Export; the file's path is the last line."""
    from pipeline.train.checkpoint import load
    from pipeline.train.export import export_onnx

    folder = args.model if args.model.is_dir() else args.model.parent
    path = args.out or folder / "model.onnx"
    difference = export_onnx(load(args.model), path)
    print(f"onnxruntime's answers differ by {difference:.1e} at most")
    print(path)
    return 0


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", type=text.folder, metavar="MODEL", help="a run's folder, or a .safetensors file"
    )
