"""``shardwell report``: a page to look at, for every dataset."""

import argparse
from pathlib import Path
from typing import Any

from pipeline.cli import text


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
    from pipeline.loader.opening import local
    from pipeline.report import report

    pages = []
    for where in args.where:
        folder, name = local(where), Path(where).resolve().name.replace(":", "-")
        with text.byte_bar(f"reading {name}", args.json) as bar:
            pages.append(report(folder, args.out / name, bar.update))
        if not args.json:
            print(pages[-1], flush=True)
    if args.json:
        text.print_json([{"page": str(page)} for page in pages])
    return 0
