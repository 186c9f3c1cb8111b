"""The command line: arguments in, messages out. The only room that prints.

Exit codes: 0 done, 1 a failed job, 2 wrong usage. Answers go to stdout, bars and errors to stderr.
A command is one module with ``add(commands)`` and one line in ``COMMANDS``.
"""

import argparse
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pipeline.cli import (
    cache,
    doctor,
    evaluate,
    export,
    export_onnx,
    predict,
    prepare,
    publish,
    report,
    show,
    text,
    train,
    verify,
)
from pipeline.errors import ShardwellError, UsageError, printable, unknown_name

COMMANDS = (
    show.add_list,
    show.add_info,
    show.add_features,
    prepare.add,
    verify.add,
    train.add,
    evaluate.add,
    predict.add,
    export_onnx.add,
    publish.add_publish,
    publish.add_pull,
    export.add,
    report.add,
    cache.add,
    doctor.add,
)
EXAMPLE = """\
example:
  shardwell prepare digit_sum"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # which may know fewer signs than we print
            stream.reconfigure(errors="backslashreplace")
    top = parser()
    args, left_over = top.parse_known_args(argv)
    if args.command is None:
        top.print_help(sys.stderr)
        return 2
    try:
        # argparse gives up an argument that may be left out once an option comes before it.
        if getattr(args, "data", "") is None and len(left_over) == 1 and left_over[0][:1] != "-":
            args.data = left_over.pop()
        _check_understood(left_over, args.parser)
        with _log_to_stderr(), _termination_interrupts():
            code: int = args.run(args)
        if sys.stdout:  # it may be closed
            sys.stdout.flush()
        return code
    except UsageError as error:
        return _fail(error.args[0], 2, f"see: shardwell {args.command} --help\n")
    except ShardwellError as error:
        return _fail(error.args[0], 1)
    except KeyboardInterrupt:
        return _fail("interrupted; what is finished is kept, run the same command to go on", 130)
    except BrokenPipeError:  # the reader of our output, `head` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _fail(f"{error.filename or 'output'}: {error.strerror or error}", 1)


def _check_understood(left_over: Sequence[str], command: argparse.ArgumentParser) -> None:
    """Raise UsageError for the first argument that the command doesn't know."""
    for argument in left_over:
        if argument.startswith("-"):
            known = [o for a in command._actions for o in a.option_strings if o.startswith("--")]
            raise unknown_name("option", argument.partition("=")[0], known)
        raise UsageError(
            f"{argument!r}: expected no further argument; join key=value pairs by commas without "
            "spaces, put a path with spaces in quotes"
        )


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Whoever ends us, a scheduler say, ends us as Ctrl-C does: workers go, and it is said."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _log_to_stderr() -> Iterator[None]:
    """What the rooms have to say while they work, a line each."""
    logger, handler = logging.getLogger("pipeline"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _Line(logging.Formatter):
    """A record as one line."""

    def format(self, record: logging.LogRecord) -> str:
        return f"shardwell: {printable(record.getMessage())}"


def parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    top = argparse.ArgumentParser(
        prog="shardwell",
        description="Prepare a corpus once, load it at memory speed.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action=_Version, help="print the version")
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    for add in COMMANDS:
        add(commands)
    return top


class _Version(argparse.Action):
    """Prints the installed version; looked up only when asked for, which keeps the help fast."""

    def __init__(self, option_strings: list[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *rest: object) -> None:
        import importlib.metadata

        print(f"shardwell {importlib.metadata.version('shardwell')}")
        parser.exit()


def _fail(message: str, code: int, more: str = "") -> int:
    text.complain(message)
    print(more, end="", file=sys.stderr)
    return code
