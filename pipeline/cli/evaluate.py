"""``shardwell evaluate``: the scores of a saved model."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli import text
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.loader import Dataset
    from pipeline.train.checkpoint import Saved
    from pipeline.train.ngram import NGram

OWN = "train"  # stands for train's transcripts where a file of them is asked for
ARPA = "words.arpa"


def add(commands: Any) -> None:
    """Declare ``shardwell evaluate``."""
    parser = text.command(
        commands,
        "evaluate",
        "score a saved model on a split of a dataset",
        "shardwell evaluate runs/mnist-standard-lstm-* data/mnist/standard-pixels-*",
        run,
    )
    text.add_model(parser)
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
        "--lm-text",
        metavar="FILE",
        help="also with a language model of these transcripts but those of held-out clips: lines "
        "name|…|transcript, or train for train's own",
    )
    parser.add_argument(
        "--arpa",
        type=text.folder,
        metavar="FILE",
        help="the language model's file (default: words.arpa in the run's folder); read, not "
        "written, without --lm-text",
    )
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="where the model computes (default auto: CUDA where there is one)",
    )
    parser.add_argument(
        "--cache",
        type=text.folder,
        metavar="DIR",
        help="where a copy of a dataset at a URL is kept",
    )
    text.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the scores, or a line for each condition or way to read."""
    from pipeline.loader import open_dataset
    from pipeline.train.checkpoint import load
    from pipeline.train.predict import evaluated

    if args.robustness and (args.lm_text or args.arpa):
        raise UsageError("--robustness is told without a language model: leave one of them out")
    saved = load(args.model)
    data = open_dataset(args.where, key=True, cache=args.cache)  # keys, for errors to name
    if args.robustness:
        return _robustness(saved, data, args)
    if args.lm_text or args.arpa:
        return _decoded(saved, data, args)
    found = evaluated(saved, data, args.split, args.device)
    if args.json:
        text.print_json({"split": args.split, "examples": len(found.truths), **found.scores})
    else:
        print(_told(found.scores))
    return 0


def _robustness(saved: "Saved", data: "Dataset", args: argparse.Namespace) -> int:
    from pipeline.train.robustness import robustness

    rows = []
    for row in robustness(saved, data, args.split, args.device):
        rows.append(vars(row))
        if not args.json:
            print(f"{row.name:<26} {row.score:.3f}   {text.count(row.examples)}", flush=True)
    if args.json:
        text.print_json(rows)
    return 0


def _decoded(saved: "Saved", data: "Dataset", args: argparse.Namespace) -> int:
    """The same sound read greedily, by beam search, and with a language model."""
    from pipeline.train.decoding import decode

    found = decode(saved, data, args.split, _language(saved, data, args), args.device)
    if args.json:
        text.print_json({"split": args.split, **asdict(found)})
        return 0
    weights = f"--alpha {found.alpha:g} --beta {found.beta:g}"
    ways = {"greedy": found.greedy, "beam": found.beam, "with language model": found.fused}
    for name, scores in ways.items():
        print(f"{name:<20} {_told(asdict(scores))}")
    print(f"the language model's perplexity {found.perplexity:.0f}, its weights {weights}")
    return 0


def _language(saved: "Saved", data: "Dataset", args: argparse.Namespace) -> "NGram":
    """The language model that is asked for; an estimated one is written and read back."""
    from pipeline.train.arpa import read_arpa, write_arpa
    from pipeline.train.decoding import language_model, sentences

    if not args.lm_text:
        return read_arpa(args.arpa)
    run = args.model if args.model.is_dir() else args.model.parent
    arpa = args.arpa or run / ARPA
    transcripts = None if args.lm_text == OWN else Path(args.lm_text).expanduser()
    found = sentences(data, saved.description.target, transcripts)
    write_arpa(arpa, language_model(found))
    if not args.json:
        print(f"a language model of {text.count(len(found))} transcripts: {arpa}", flush=True)
    return read_arpa(arpa)


def _told(scores: Any) -> str:
    return " · ".join(f"{name} {value:.4f}" for name, value in scores.items())
