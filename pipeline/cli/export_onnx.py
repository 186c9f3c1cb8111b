"""``shardwell export-onnx``: a saved model for any ONNX runtime."""

import argparse
from pathlib import Path
from typing import Any

from pipeline.cli import text


def add(commands: Any) -> None:
    """Declare ``shardwell export-onnx``."""
    parser = text.command(
        commands,
        "export-onnx",
        "write a saved model as ONNX: raw samples go in, its features are inside",
        "shardwell export-onnx runs/speech_commands-v2-35-bcresnet-*",
        run,
    )
    text.add_model(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="file to write (default: model.onnx in the run's folder)",
    )


def run(args: argparse.Namespace) -> int:
    """Export; the file's path is the last line."""
    from pipeline.train.checkpoint import load
    from pipeline.train.export import export_onnx

    folder = args.model if args.model.is_dir() else args.model.parent
    path = args.out or folder / "model.onnx"
    difference = export_onnx(load(args.model), path)
    print(f"onnxruntime's answers differ by {difference:.1e} at most")
    print(path)
    return 0
