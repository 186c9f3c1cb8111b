"""``shardwell cache``: what lies in the cache, and cleaning it."""

import argparse
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipeline.cli import text
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.contents import Item

DAY = 86_400  # seconds
FLAGS = {
    "downloads": "files from the network; downloaded again where no inflated copy is left",
    "generated": "files that recipes made; preparing anew makes them again",
    "inflated": "inflated archives; they are made again from the downloads",
    "copies": "datasets and shards brought from stores and Hubs",
    "leftovers": "what killed runs left half done",
}


def add(commands: Any) -> None:
    """Declare ``shardwell cache`` and ``shardwell cache clean``."""
    parser = text.command(
        commands,
        "cache",
        "list what is kept in the cache: size, last use, where it comes from",
        "shardwell cache",
        run_list,
    )
    _add_cache(parser, text.CACHE)
    text.add_json(parser)
    actions = parser.add_subparsers(metavar="clean", required=False)
    cleaning = text.command(
        actions,
        "clean",
        "remove what no run is using; prepared datasets are not in the cache and stay",
        "shardwell cache clean --inflated --older-than 30 --dry-run",
        run_clean,
    )
    for name, told in FLAGS.items():
        cleaning.add_argument(f"--{name}", action="store_true", help=told)
    cleaning.add_argument("--all", action="store_true", help="all of these")
    cleaning.add_argument(
        "--older-than", type=float, metavar="DAYS", help="only what was last used before that"
    )
    cleaning.add_argument("--dry-run", action="store_true", help="only say what would go")
    _add_cache(cleaning, argparse.SUPPRESS)
    text.add_json(cleaning)


def _add_cache(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--cache",
        type=text.folder,
        default=default,
        metavar="DIR",
        help=f"the folder (default {text.CACHE})",
    )


def run_list(args: argparse.Namespace) -> int:
    """Print what is there: a line for each thing, and the sum."""
    from pipeline.contents import KINDS

    items = _contents(args)
    if args.json:
        text.print_json([_as_json(item) for item in items])
        return 0
    for kind, told in KINDS.items():
        mine = [item for item in items if item.kind == kind]
        if mine:
            print(f"{kind} ({told})")
            _print(mine)
    print(f"{text.size(sum(item.bytes for item in items)):>9}  in all, {args.cache}")
    return 0


def run_clean(args: argparse.Namespace) -> int:
    """Clean, and tell what went and what stayed."""
    from pipeline.contents import clean

    kinds = [name for name in FLAGS if args.all or getattr(args, name)]
    if not kinds:
        raise UsageError(f"expected --all, or some of {', '.join(f'--{name}' for name in FLAGS)}")
    if args.older_than is not None and args.older_than < 0:
        raise UsageError(f"--older-than {args.older_than:g}: expected a number of days")
    before = time.time() - (args.older_than or 0) * DAY
    wanted = [i for i in _contents(args) if i.kind in kinds and i.used <= before]
    gone = wanted if args.dry_run else clean(wanted)
    kept = [item for item in wanted if item not in gone]
    freed = sum(item.bytes for item in gone)
    if args.json:
        answer = {"removed": [_as_json(i) for i in gone], "in_use": [_as_json(i) for i in kept]}
        text.print_json(answer | {"bytes": freed})
        return 0
    _print(gone)
    for item in kept:
        print(f"{text.size(item.bytes):>9}  kept, a run is using it: {item.about}")
    print(f"{text.size(freed):>9}  {'would be freed' if args.dry_run else 'freed'}")
    return 0


def _contents(args: argparse.Namespace) -> "list[Item]":
    from pipeline.contents import contents

    return contents(args.cache, _sources())


def _sources() -> dict[str, str]:
    """Of the recipes that come with shardwell: a source's hash and file → what it is."""
    from pipeline.manifest import load_manifest
    from pipeline.recipe_files import known_recipes

    named = {}
    for name, place in known_recipes().items():
        for source in load_manifest(place.manifest).sources.values():
            told = f"{name} {source.name}"
            named[source.sha256[:16] if source.sha256 else source.file] = told
            named.setdefault(source.file, told)
    return named


def _print(items: "Sequence[Item]") -> None:
    """A line for all that are called the same."""
    together: dict[str, list[Item]] = {}
    for item in items:
        together.setdefault(item.about, []).append(item)
    for about, same in together.items():
        n_bytes, used = sum(i.bytes for i in same), max(i.used for i in same)
        number = f" ({len(same):,})" if len(same) > 1 else ""
        print(f"{text.size(n_bytes):>9}  {_ago(used):<13}  {about}{number}")


def _ago(used: float) -> str:
    days = int((time.time() - used) / DAY)
    return "today" if days < 1 else f"{days:,} day{'s' if days > 1 else ''} ago"


def _as_json(item: "Item") -> dict[str, Any]:
    return {
        "kind": item.kind,
        "about": item.about,
        "bytes": item.bytes,
        "used": item.used,
        "paths": [str(path) for path in item.paths],
    }
