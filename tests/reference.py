"""Writes ``docs/cli.md`` from the help of the commands: ``python -m tests.reference``."""

import argparse
from collections.abc import Iterator
from pathlib import Path

from pipeline.cli import parser

PAGE = Path(__file__).parent.parent / "docs" / "cli.md"
HEAD = """\
# Command line

Made from the help of the commands by `python -m tests.reference`; `shardwell COMMAND --help` says
the same.

Answers go to stdout, bars, warnings and errors to stderr. Where a command makes something, the last
line on stdout is its path. Exit codes: 0 done, 1 a failed job, 2 wrong usage, 130 interrupted.
"""


def commands(of: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of all commands, each followed by those of its own commands."""
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield command
                yield from commands(command)


def reference() -> str:
    """The page."""
    return "\n".join([HEAD, *(section(command) for command in commands(parser()))])


def section(command: argparse.ArgumentParser) -> str:
    """One command: what it does, its arguments, an example."""
    told, example = " ".join((command.description or "").split()), example_of(command)
    positional, options, *titled = command._action_groups
    rows = [row for group in (positional, *titled, options) for row in table(group)]
    lines = [f"## {command.prog}", "", told, "", "| argument | meaning |", "|---|---|", *rows]
    return "\n".join([*lines, "", f"Example: `{example}`", ""])


def example_of(command: argparse.ArgumentParser) -> str:
    """The command line that its help ends with."""
    return (command.epilog or "").splitlines()[-1].strip()


def table(group: argparse._ArgumentGroup) -> Iterator[str]:
    """A row for each argument of a group."""
    for action in group._group_actions:
        if action.help is None or isinstance(action, argparse._HelpAction):
            continue
        metavar = action.metavar or "\\|".join(map(str, action.choices or ()))
        name = ", ".join(action.option_strings)
        shown = " ".join(filter(None, (name, "" if action.nargs == 0 else str(metavar))))
        several = " …" if action.nargs == "+" else ""
        told = action.help % {"default": action.default, "prog": "shardwell"}
        yield f"| `{shown}{several}` | {told.replace('|', '&#124;')} |"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
