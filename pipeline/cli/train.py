"""``shardwell train``: train a model on a dataset."""

import argparse
import json
from typing import Any

from pipeline.cli import text


def add(commands: Any) -> None:
    """Declare ``shardwell train``."""
    parser = text.command(
        commands,
        "train",
        "train a model on a dataset and tell its accuracy",
        "shardwell train data/mnist/standard-pixels-* --epochs 2",
        run,
    )
    parser.add_argument(
        "where", type=text.place, metavar="DIR", help="a sealed dataset, or its URL"
    )
    parser.add_argument("--model", default="conv2d", metavar="NAME", help="default conv2d")
    parser.add_argument("--target", metavar="LABEL", help="the label to learn (default: the hint)")
    parser.add_argument("--epochs", type=int, default=10, metavar="N", help="default 10")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="default 32")
    parser.add_argument("--lr", type=float, default=0.001, metavar="X", help="default 0.001")
    parser.add_argument(
        "--cache", type=text.folder, metavar="DIR", help="for a copy of a dataset at a URL"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default 0")
    text.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Train, a line per epoch, at the end the test accuracy."""
    from pipeline.train import Epoch, Settings, train

    settings = Settings(
        model=args.model,
        target=args.target,
        epochs=args.epochs,
        batch_size=args.batch_size,
        lr=args.lr,
        seed=args.seed,
    )
    for step in train(args.where, settings, not args.json, args.cache):
        if args.json:
            print(json.dumps(vars(step)), flush=True)  # a line each, for it goes on for long
        elif isinstance(step, Epoch):
            validation = "" if step.validation is None else f" · validation {step.validation:.3f}"
            losses = f"loss {step.loss:.4f} · train {step.train:.3f}{validation}"
            print(f"epoch {step.number:>3} · {losses}", flush=True)
        elif step.test is not None:
            print(f"test accuracy {step.test:.3f} (the commonest class alone: {step.chance:.3f})")
    return 0
