"""``shardwell prepare``: build a dataset, or say what that would take."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli import text
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.prepare import Request


def add(commands: Any) -> None:
    """Declare ``shardwell prepare``."""
    parser = text.command(
        commands,
        "prepare",
        "build a dataset: download, compute features, seal; the last line printed is its path",
        "shardwell prepare digit_sum --protocol len-10 --out data",
        run,
    )
    what = parser.add_argument_group("what")
    what.add_argument("recipe", metavar="RECIPE", help="a recipe's name, or the path of a .py file")
    what.add_argument(
        "data", metavar="DATA", nargs="?", help="your own folder or table, for a recipe of such"
    )
    what.add_argument(
        "--protocol",
        metavar="P",
        help="which way to use the corpus (default: the first; shardwell info lists them)",
    )
    what.add_argument(
        "--features",
        metavar="KIND[@FRONTEND][:key=value,…]",
        help="features to compute, such as mfcc@torchaudio:n_mels=40 (default: the recipe's)",
    )
    what.add_argument(
        "--audio",
        default="",
        metavar="key=value,…",
        help="how audio is handled, such as sample_rate=8000 or duration=none",
    )
    what.add_argument(
        "--params",
        default="",
        metavar="key=value,…",
        help="change the protocol's parameters, such as words=yes+no",
    )
    where = parser.add_argument_group("where")
    where.add_argument(
        "--out",
        type=text.place,
        default="data",
        metavar="ROOT",
        help="where the dataset goes: a folder, or a URL such as s3://bucket/prefix (default data)",
    )
    where.add_argument(
        "--cache",
        type=text.folder,
        default="~/.cache/shardwell",
        metavar="DIR",
        help="where downloads and inflated archives are kept (default ~/.cache/shardwell)",
    )
    where.add_argument(
        "--manifest",
        type=text.path,
        metavar="PATH",
        help="your own manifest: a mirror, or a subset",
    )
    where.add_argument(
        "--source",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a source's file that you have already; it is checked all the same; or your own data "
        "(repeatable)",
    )
    where.add_argument("--offline", action="store_true", help="never use the network")
    how = parser.add_argument_group("how")
    how.add_argument(
        "--engine",
        default="local",
        metavar="NAME",
        help="what runs the workers: serial, local or dask (default local)",
    )
    how.add_argument(
        "--address",
        metavar="URL",
        help="scheduler of a running Dask cluster that you trust, such as tcp://host:8786",
    )
    how.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="number of processes (default: one per usable core)",
    )
    how.add_argument(
        "--max-bad",
        type=int,
        default=0,
        metavar="N",
        help="leave out up to N unusable clips (default 0)",
    )
    how.add_argument(
        "--dry-run", action="store_true", help="only say what it would take: clips, bytes, disk"
    )
    how.add_argument("--quiet", action="store_true", help="no progress bars")
    text.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prepare, or estimate."""
    from pipeline.prepare import prepare_dataset

    request = _request(args)
    if args.dry_run:
        return _dry_run(request, args.json)
    done = prepare_dataset(request)
    if args.json:
        text.print_json(
            {
                "path": str(done.folder),
                "rows": dict(done.rows),
                "bad": done.bad,
                "odd": done.odd,
                "up_to_date": done.up_to_date,
            }
        )
        return 0
    state = "up to date" if done.up_to_date else "prepared"
    left_out = f" · {done.bad} bad clips left out" if done.bad else ""
    odd = ""
    if done.odd:
        odd = f" · {done.odd} silent, clipped or truncated (shardwell report shows them)"
    print(f"{state}: {text.splits(done.rows)}{left_out}{odd}")
    print(done.folder)
    return 0


def _source(given: str) -> tuple[str, Path]:
    """``NAME=FILE``"""
    name, _, file = given.partition("=")
    if not file:
        raise UsageError(f"--source {given}: expected NAME=FILE")
    try:
        return name, text.path(file)
    except argparse.ArgumentTypeError as error:
        raise UsageError(f"--source {name}: {error}") from None


def _request(args: argparse.Namespace) -> "Request":
    from pipeline.prepare import Request

    return Request(
        recipe=args.recipe,
        data=args.data,
        protocol=args.protocol,
        features=args.features,
        audio=args.audio,
        params=args.params,
        out=args.out,
        cache=args.cache,
        manifest=args.manifest,
        sources=dict(map(_source, args.source)),
        engine=args.engine,
        workers=args.workers,
        address=args.address,
        max_bad=args.max_bad,
        offline=args.offline,
        progress=not args.quiet,
    )


def _dry_run(request: "Request", as_json: bool) -> int:
    from pipeline.prepare import estimate

    found = estimate(request)
    if as_json:
        text.print_json(
            {
                "rows": dict(found.rows),
                "hours": found.hours,
                "shards": found.shards,
                "download": found.download,
                "inflated": found.inflated,
                "features": found.features,
                "disk": found.disk,
                "exact": found.exact,
                "path": str(found.found.folder) if found.found else None,
            }
        )
        return 0
    if found.found:
        print(f"up to date: {text.splits(found.rows)}")
        print(found.found.folder)
        return 0
    about = "" if found.exact else "about "
    shards = "" if found.shards is None else f"{found.shards:,}, "
    print(f"clips     {text.splits(found.rows)}")
    if found.hours is not None:
        print(f"hours     {about}{found.hours:.2f}")
    print(f"shards    {shards}{about if found.features else ''}{text.size(found.features)}")
    print(f"download  {text.size(found.download)}")
    print(f"inflated  {about if found.inflated else ''}{text.size(found.inflated)}")
    in_all = "" if found.disk is None else " in all"
    print(f"disk      {about if found.disk else ''}{text.size(found.disk)}{in_all}")
    return 0
