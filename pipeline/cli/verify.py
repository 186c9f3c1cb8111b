"""``shardwell verify``: is a dataset still what was sealed?"""

import argparse
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
        "where", type=text.place, metavar="DIR", help="a sealed dataset, or its URL"
    )
    text.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Verify; exit 1 when something is wrong."""
    import sys

    from tqdm import tqdm

    from pipeline.dataset import open_sealed, verify
    from pipeline.remote import is_url, open_remote, verify_remote

    where = args.where
    sealed = open_remote(where) if is_url(where) else open_sealed(where)
    total = sum(shard.bytes for shards in sealed.splits.values() for shard in shards)
    with tqdm(
        total=total,
        desc="verifying",
        unit="B",
        unit_scale=True,
        leave=False,
        disable=True if args.json else None,
    ) as bar:
        problems = (verify_remote if is_url(where) else verify)(where, bar.update)
    rows = {split: sealed.rows(split) for split in sealed.splits}
    if args.json:
        text.print_json({"path": str(where), "rows": rows, "problems": problems})
    else:
        for problem in problems:
            print(f"shardwell: {problem}", file=sys.stderr)
        if not problems:
            print(f"all is well: {text.splits(rows)}, {text.size(total)}")
    return 1 if problems else 0
