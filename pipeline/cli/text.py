"""What the commands share: how a command is declared, how numbers and errors are written."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import Lines, printable

CACHE = "~/.cache/shardwell"  # as help texts name it


def command(
    commands: Any, name: str, summary: str, example: str, run: Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """Declare a command whose help ends with an example that runs as it stands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # nobody should clean by a slip of the finger
    )
    parser.set_defaults(run=run, parser=parser)
    return parser


def place(given: str) -> str | Path:
    """A folder's path, or a URL as it is: a ``Path`` would swallow one of its slashes."""
    return given if "://" in given else folder(given)


def folder(given: str) -> Path:
    """A folder's path."""
    if not given:
        raise argparse.ArgumentTypeError("expected a folder, got nothing")
    return path(given)


def path(given: str) -> Path:
    """A file's or folder's path; ``~`` is a person's home."""
    try:
        given.encode()
        return Path(given).expanduser()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"{given!r}: its name is not UTF-8; rename it") from None
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"{given}: no such person's home is known") from None


def add_model(parser: argparse.ArgumentParser) -> None:
    """The argument that names a saved model."""
    parser.add_argument(
        "model", type=folder, metavar="MODEL", help="a run's folder, or a .safetensors file"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """The flag for programs that read the answer."""
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")


def print_json(values: Mapping[str, Any] | list[Any]) -> None:
    """Print an answer for programs."""
    print(json.dumps(values, indent=1, ensure_ascii=False))


def complain(message: str) -> None:
    """Say on stderr what is wrong: in one line, or in those that the program itself made."""
    told = message if isinstance(message, Lines) else printable(message)
    print(f"shardwell: {told}", file=sys.stderr)


def size(n_bytes: int | None) -> str:
    """A number of bytes for people: ``2.43 GB``; ``not known yet`` for None."""
    if n_bytes is None:
        return "not known yet"
    value = float(n_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1000
    raise AssertionError


def print_files(files: Mapping[str, int]) -> None:
    """Print the paths and sizes of files, and their sum."""
    for name, n_bytes in files.items():
        print(f"{size(n_bytes):>9}  {name}")
    print(f"{size(sum(files.values())):>9}  in all, {len(files)} files")


def byte_bar(what: str, as_json: bool) -> Any:
    """A bar of bytes of a total that is not known, on stderr where somebody looks at it."""
    from tqdm import tqdm

    return tqdm(
        desc=what, unit="B", unit_scale=True, leave=False, disable=True if as_json else None
    )


def count(n: int | None) -> str:
    """A count for people: ``84,843``; ``unpinned`` for None."""
    return "unpinned" if n is None else f"{n:,}"


def splits(rows: Mapping[str, int | None]) -> str:
    """Counts per split in one line."""
    return " · ".join(f"{split} {count(n)}" for split, n in rows.items())
