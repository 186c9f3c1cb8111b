"""``shardwell export``: a dataset as Parquet, WebDataset or text."""

import argparse
from typing import Any

from pipeline.cli import text


def add(commands: Any) -> None:
    """Declare ``shardwell export``."""
    parser = text.command(
        commands,
        "export",
        "write a dataset as Parquet, WebDataset or text",
        "shardwell export data/digit_sum/len-10-tokens-* --format text --out digits",
        run,
    )
    parser.add_argument("where", type=text.folder, metavar="DIR", help="a sealed dataset")
    parser.add_argument(
        "--format",
        choices=("parquet", "webdataset", "text"),
        default="parquet",
        help="file format; text is for datasets of tokens (default parquet)",
    )
    parser.add_argument(
        "--out",
        type=text.folder,
        required=True,
        metavar="DIR",
        help="a new folder; it must not exist",
    )
    parser.add_argument(
        "--split",
        action="append",
        default=[],
        metavar="NAME",
        help="export only this split (repeatable)",
    )
    text.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Export; the files written and their sizes."""
    from pipeline.publish import export
    from pipeline.publish.folder import files_of

    with text.byte_bar("exporting", args.json) as bar:
        export(args.where, args.format, args.out, args.split, bar.update)
    files = files_of(args.out)
    if args.json:
        text.print_json({"path": str(args.out), "files": files})
        return 0
    text.print_files(files)
    print(args.out)
    return 0
