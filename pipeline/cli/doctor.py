"""``shardwell doctor``: can shardwell work here?"""

import argparse
import dataclasses
from typing import Any

from pipeline.cli import text


def add(commands: Any) -> None:
    """Declare ``shardwell doctor``."""
    parser = text.command(
        commands,
        "doctor",
        "check the installation and this machine; exit 1 if something needed is broken",
        "shardwell doctor",
        run,
    )
    parser.add_argument(
        "--out",
        type=text.place,
        default="data",
        metavar="ROOT",
        help="where datasets are to go: a folder or a URL (default data)",
    )
    parser.add_argument(
        "--cache",
        type=text.folder,
        default=text.CACHE,
        metavar="DIR",
        help=f"where downloads are to go (default {text.CACHE})",
    )
    text.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print a line per check as it is done, with a remedy below where one is needed."""
    from pipeline.doctor import FAIL, examine

    findings = []
    for finding in examine(args.out, args.cache):
        findings.append(finding)
        if not args.json:
            print(f"{finding.state:<4}  {finding.check:<15}  {finding.found}")
            if finding.remedy:
                print(f"{'':<4}  {'':<15}  → {finding.remedy}", flush=True)
    if args.json:
        text.print_json([dataclasses.asdict(finding) for finding in findings])
    return 1 if any(finding.state == FAIL for finding in findings) else 0
