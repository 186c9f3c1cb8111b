"""``shardwell publish`` and ``pull``: to a Hugging Face Hub, and back."""

import argparse
from typing import TYPE_CHECKING, Any

from pipeline.cli import text
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from pipeline.publish.run import Plan, Publication


def add_publish(commands: Any) -> None:
    """Declare ``shardwell publish``."""
    parser = text.command(
        commands,
        "publish",
        "publish datasets of one corpus on a Hugging Face Hub, as one commit",
        "shardwell publish data/digit_sum/len-10-tokens-* me/digit-sum --dry-run",
        run_publish,
    )
    what = parser.add_argument_group("what")
    what.add_argument("folders", nargs="+", type=text.folder, metavar="DIR", help="sealed datasets")
    what.add_argument("repository", metavar="USER/NAME", help="the repository on the Hub")
    what.add_argument(
        "--format",
        choices=("parquet", "webdataset"),
        default="parquet",
        help="how the data is stored (default parquet)",
    )
    what.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="NAME",
        help="a config's name, one per DIR in their order (default: the kinds of features)",
    )
    what.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="NAME",
        help="publish only this split (repeatable)",
    )
    where = parser.add_argument_group("where")
    where.add_argument(
        "--revision", default="main", metavar="BRANCH", help="the branch (default main)"
    )
    where.add_argument("--tag", metavar="NAME", help="tag the commit with this name")
    where.add_argument("--private", action="store_true", help="visible to its owners only")
    where.add_argument("--gated", action="store_true", help="people must ask its owners for access")
    _add_endpoint(where)
    where.add_argument(
        "--cache",
        type=text.folder,
        default="~/.cache/shardwell",
        metavar="DIR",
        help="where the files are built before they are sent (default ~/.cache/shardwell)",
    )
    how = parser.add_argument_group("how")
    how.add_argument(
        "--dry-run", action="store_true", help="build and check everything, show it, send nothing"
    )
    how.add_argument(
        "--i-may-redistribute",
        action="store_true",
        help="you confirm that you may pass the data on, where the licence does not say so",
    )
    text.add_json(parser)


def add_pull(commands: Any) -> None:
    """Declare ``shardwell pull``."""
    parser = text.command(
        commands,
        "pull",
        "bring a published dataset back as a sealed one; the last line printed is its path",
        "shardwell pull me/digit-sum@v1:tokens --out data",
        run_pull,
    )
    parser.add_argument("where", metavar="USER/NAME[@REVISION][:CONFIG]", help="what to bring")
    parser.add_argument(
        "--out",
        type=text.folder,
        default="data",
        metavar="ROOT",
        help="where it goes (default data)",
    )
    _add_endpoint(parser)
    text.add_json(parser)


def _add_endpoint(parser: Any) -> None:
    parser.add_argument(
        "--endpoint", metavar="URL", help="another Hub (default HF_ENDPOINT, or huggingface.co)"
    )


def run_publish(args: argparse.Namespace) -> int:
    """Publish, or tell what would be."""
    from pipeline.publish import publish

    wanted = _publication(args)
    shown: list[Plan] = []
    with text.byte_bar("building", args.json) as bar:

        def show(plan: "Plan") -> None:
            bar.close()
            shown.append(plan)
            if not args.json:
                _print_plan(plan, wanted)

        done = publish(wanted, bar.update, show, args.dry_run)
    if args.json:
        answer = {"files": dict(shown[0].files), "licences": dict(shown[0].licences)}
        text.print_json(answer | ({"uploaded": vars(done)} if done else {}))
    elif done:
        state = "published" if done.changed else "up to date"
        print(f"{state}: commit {done.commit[:8]}")
        print(done.url)
    return 0


def _publication(args: argparse.Namespace) -> "Publication":
    from pipeline.publish import Publication, Target
    from pipeline.publish.place import parse_place

    place = parse_place(args.repository)
    if place.revision or place.config:
        raise UsageError(f"{args.repository}: expected user/name; see --revision and --config")
    target = Target(place.repository, args.revision, args.private, args.gated, args.tag)
    return Publication(
        folders=args.folders,
        target=target,
        names=args.config,
        splits=args.split,
        form=args.format,
        endpoint=args.endpoint,
        may_redistribute=args.i_may_redistribute,
        cache=args.cache,
    )


def _print_plan(plan: "Plan", wanted: "Publication") -> None:
    text.print_files(plan.files)
    for name, licence in plan.licences.items():
        print(f"licence   {name}: {licence}")
    if not plan.allowed and not wanted.may_redistribute:
        print("          publishing it takes --i-may-redistribute")
    print(f"to        {wanted.target.repository}, branch {wanted.target.revision}", flush=True)


def run_pull(args: argparse.Namespace) -> int:
    """Pull; where it lies now."""
    from pipeline.dataset import open_sealed
    from pipeline.publish import pull

    with text.byte_bar("pulling", args.json) as bar:
        folder = pull(args.where, args.out, args.endpoint, bar.update)
    sealed = open_sealed(folder)
    rows: dict[str, int | None] = {split: sealed.rows(split) for split in sealed.splits}
    if args.json:
        text.print_json({"path": str(folder), "rows": rows})
        return 0
    print(f"pulled: {text.splits(rows)}")
    print(folder)
    return 0
