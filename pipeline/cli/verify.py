"""``shardwell verify``: is a dataset still what was sealed?"""

import argparse
import sys
from pathlib import Path
from typing import Any

from pipeline.cli import text


def add(commands: Any) -> None:
    """Declare ``shardwell verify``."""
    parser = text.command(
        commands,
        "verify",
        "re-hash every shard of a dataset, check its columns and counts",
        "shardwell verify data/digit_sum/len-10-tokens-*",
        run,
    )
    parser.add_argument(
        "where", type=text.place, metavar="DIR", nargs="+", help="sealed datasets, or their URLs"
    )
    text.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Verify one after the other; exit 1 when something is wrong."""
    found = [_verified(where, args.json) for where in args.where]
    if args.json:
        text.print_json(found[0] if len(found) == 1 else found)
    return 1 if any(one["problems"] for one in found) else 0


def _verified(where: str | Path, as_json: bool) -> dict[str, Any]:
    """What is to be said of one dataset; said unless it goes into JSON."""
    from tqdm import tqdm

    from pipeline.dataset import open_sealed, verify
    from pipeline.remote import is_url, open_remote, verify_remote

    sealed = open_remote(where) if is_url(where) else open_sealed(Path(where))
    total = sum(shard.bytes for shards in sealed.splits.values() for shard in shards)
    with tqdm(
        total=total,
        desc="verifying",
        unit="B",
        unit_scale=True,
        leave=False,
        disable=True if as_json else None,
    ) as bar:
        if is_url(where):
            problems = verify_remote(where, bar.update)
        else:
            problems = verify(Path(where), bar.update)
    rows = {split: sealed.rows(split) for split in sealed.splits}
    if not as_json:
        for problem in problems:
            print(f"shardwell: {problem}", file=sys.stderr)
        if not problems:
            print(f"all is well: {text.splits(rows)}, {text.size(total)}")
    return {"path": str(where), "rows": rows, "problems": problems}
