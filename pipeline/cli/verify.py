"""``shardwell verify``: is a dataset still what was sealed?"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli import text

if TYPE_CHECKING:
    from pipeline.dataset import Sealed


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

    sealed, check = _opened(where)
    total = sum(shard.bytes for shards in sealed.splits.values() for shard in shards)
    with tqdm(
        total=total,
        desc="verifying",
        unit="B",
        unit_scale=True,
        leave=False,
        disable=True if as_json else None,
    ) as bar:
        problems = check(bar.update)
    rows = {split: sealed.rows(split) for split in sealed.splits}
    if not as_json:
        for problem in problems:
            text.complain(problem)
        if not problems:
            print(f"all is well: {text.splits(rows)}, {text.size(total)}")
    return {"path": str(where), "rows": rows, "problems": problems}


def _opened(where: str | Path) -> tuple["Sealed", Callable[[Callable[[int], object]], list[str]]]:
    """A dataset, and what verifies it, ticking by bytes."""
    from pipeline.dataset import open_sealed, verify
    from pipeline.publish.place import is_on_hub
    from pipeline.publish.published import find
    from pipeline.publish.rebuild import verify_published
    from pipeline.remote import is_url, open_remote, verify_remote

    if is_on_hub(where):
        found = find(where)
        return found.config.sealed, partial(verify_published, found)
    if is_url(where):
        return open_remote(where), partial(verify_remote, where)
    return open_sealed(Path(where)), partial(verify, Path(where))
