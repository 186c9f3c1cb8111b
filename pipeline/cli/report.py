"""``shardwell report``: a page to look at, for every dataset."""

import argparse
from pathlib import Path
from typing import Any

from pipeline.cli import text
from pipeline.errors import UsageError


def add(commands: Any) -> None:
    """Declare ``shardwell report``."""
    parser = text.command(
        commands,
        "report",
        "make a page that shows what a dataset holds and what is wrong with it",
        "shardwell report data/digit_sum/len-10-tokens-*",
        run,
    )
    parser.add_argument(
        "where", type=text.place, metavar="DIR", nargs="+", help="sealed datasets, or their URLs"
    )
    parser.add_argument(
        "--out",
        type=text.folder,
        default=Path("reports"),
        metavar="FOLDER",
        help="each gets a folder of its own name in here (default reports)",
    )
    text.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Report on one after the other; the pages' paths."""
    from pipeline.holding import holding
    from pipeline.loader.opening import local
    from pipeline.report import report

    names = [Path(where).resolve().name.replace(":", "-") for where in args.where]
    if len(set(names)) < len(names):
        raise UsageError(
            f"{', '.join(names)}: expected names that differ, for each gets a folder of its name; "
            "report on them one by one, each with its own --out"
        )
    pages = []
    for where, name in zip(args.where, names, strict=True):
        folder = local(where)
        with holding(folder), text.byte_bar(f"reading {name}", args.json) as bar:
            pages.append(report(folder, args.out / name, bar.update))
        if not args.json:
            print(pages[-1], flush=True)
    if args.json:
        text.print_json([{"page": str(page)} for page in pages])
    return 0
