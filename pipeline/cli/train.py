"""``shardwell train``: train a model on a dataset."""

import argparse
import json
from typing import TYPE_CHECKING, Any

from pipeline.cli import text

if TYPE_CHECKING:
    from pipeline.train import Report, Settings

# Every setting has its flag; what is not given is the model's own default, or the trainer's.
FLAGS: tuple[tuple[str, type, str], ...] = (
    ("model", str, "the model (default: what the recipe suggests, else conv2d)"),
    ("options", str, "the model's own settings, such as hidden=96,layers=2"),
    ("target", str, "the label to learn (default: what the recipe suggests)"),
    ("features", str, "features to compute while training, for a dataset of waveforms"),
    ("epochs", int, "passes through the training split"),
    ("batch_size", int, "examples per step, over all processes together"),
    ("window", int, "how many examples are sorted by length together, for clips of any length"),
    ("optimizer", str, "adam, adamw or sgd"),
    ("lr", float, "learning rate; with a schedule, its peak"),
    ("weight_decay", float, "the optimizer's weight decay"),
    ("schedule", str, "constant or cosine"),
    ("warmup", float, "share of the run in which the learning rate rises"),
    ("clip", float, "largest norm of the gradient; 0 for no limit"),
    ("smoothing", float, "label smoothing: the share of a class that goes to all of them"),
    ("augment", str, "shift+noise+mask, some of these, or none"),
    ("patience", int, "stop after so many evaluations without a better one"),
    ("eval_every", int, "steps between evaluations (default: an epoch)"),
    ("eval_split", str, "the split that chooses the best model (default validation)"),
    ("eval_examples", int, "evaluate on only so many of its examples"),
    ("save_every", int, "steps between saves (default: at evaluations)"),
    ("seed", int, "seed of weights, order, dropout and augmentation"),
    ("device", str, "cpu, cuda or auto"),
    ("precision", str, "float32 or bfloat16"),
    ("workers", int, "processes that gather batches"),
)


def add(commands: Any) -> None:
    """Declare ``shardwell train``."""
    parser = text.command(
        commands,
        "train",
        "train a model on a dataset; the same command goes on where it was cut off",
        "shardwell train data/mnist/standard-pixels-* --model lstm",
        run,
    )
    parser.add_argument(
        "where", type=text.place, metavar="DIR", help="a sealed dataset, or its URL"
    )
    parser.add_argument(
        "--out",
        type=text.folder,
        metavar="DIR",
        help="the run's folder (default: one in runs, named by data and settings)",
    )
    parser.add_argument(
        "--cache",
        type=text.folder,
        metavar="DIR",
        help="where a copy of a dataset at a URL is kept",
    )
    settings = parser.add_argument_group("settings (each model has defaults of its own)")
    for name, kind, told in FLAGS:
        settings.add_argument(
            f"--{name.replace('_', '-')}",
            type=kind,
            metavar={str: "NAME", int: "N", float: "X"}[kind],
            default=argparse.SUPPRESS,
            help=told,
        )
    text.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Train, a line per evaluation, at the end the test scores and the run's folder."""
    from pathlib import Path

    from pipeline.loader import open_dataset
    from pipeline.train import run_name, train

    data = open_dataset(args.where, cache=args.cache)
    settings = _settings(args, data.info["hints"])
    out = args.out or Path("runs") / run_name(data, settings)
    done = train(
        args.where,
        settings,
        out,
        tell=_print_json if args.json else _print,
        cache=args.cache,
        bars=not args.json,
    )
    if not done.main:
        return 0
    scores = done.test.scores if done.test else None
    if args.json:
        found = {"path": str(out), "test": scores, "parameters": done.parameters}
        print(json.dumps(found | {"steps": done.steps}))
        return 0
    if done.test and scores:
        first = f"test {done.watch} {scores[done.watch]:.3f}"
        if done.watch == "accuracy":
            first += f" (the commonest class alone: {done.test.chance:.3f})"
        others = (f"{name} {value:.3f}" for name, value in scores.items() if name != done.watch)
        print(" · ".join([first, *others]))
    print(out)
    return 0


def _settings(args: argparse.Namespace, hints: dict[str, Any]) -> "Settings":
    """The flags that were given, as settings."""
    from pipeline.train import parse_options, settings_for

    given = {name: getattr(args, name) for name, _, _ in FLAGS if hasattr(args, name)}
    if "augment" in given:
        names = given["augment"]
        given["augment"] = () if names == "none" else tuple(names.split("+"))
    if "options" in given:
        model = settings_for({k: v for k, v in given.items() if k == "model"}, hints).model
        given["options"] = parse_options(model, given["options"])
    return settings_for(given, hints)


def _print(report: "Report") -> None:
    held_out = ""
    if report.held_out is not None:
        held_out = f" · held out {report.held_out[report.watch]:.3f}"
    scores = f"train {report.train[report.watch]:.3f}{held_out}"
    print(f"epoch {report.epoch:>3} · loss {report.loss:.4f} · {scores}", flush=True)


def _print_json(report: "Report") -> None:
    print(json.dumps(vars(report)), flush=True)  # a line each, for it goes on for long
