"""The tree of things that can go wrong.

    ShardwellError              anything this package reports; the command line exits with 1
    ├── UsageError              a wrong argument or flag; the command line exits with 2
    │   ├── UnknownNameError    a recipe, protocol, feature … that does not exist
    │   └── FeatureError        feature parameters that make no sense
    ├── ManifestError           a manifest that breaks its rules (all mistakes at once)
    ├── RecipeError             a recipe that can't be loaded, or a corpus unlike its recipe
    ├── SourceError             an outside file: not to be had, wrong size or hash
    ├── ArchiveError            an archive that can't be inflated, indexed or read
    ├── ClipError               one clip that can't be used (never ends a build by itself)
    ├── BuildError              a build that can't go on: bad clips, broken promises, a dead worker
    ├── OutputError             the output can't be written: something else is there, no space left
    ├── RemoteError             a store elsewhere (S3, …) that can't be read or written
    │   └── UnreachableError    it did not answer; what was brought earlier may do
    ├── ModelError              a saved model that is damaged, or doesn't fit the data
    ├── TrainingError           a training that can't go on: the loss is no number any more
    └── DatasetError            a directory that is not a sealed dataset, or a damaged one

Every message is one line: where, expected, got, what to do next; where a file has many mistakes,
one line each. Exceptions take that one string, so they survive the trip between processes.
"""

import difflib
from collections.abc import Iterable, Sequence

LONGEST = 1000  # characters of a mistake that are shown


class ShardwellError(Exception):
    """Anything that shardwell reports."""


class UsageError(ShardwellError):
    """A wrong argument or flag."""


class UnknownNameError(UsageError):
    """A name that is not among the known ones."""


class ManifestError(ShardwellError):
    """A manifest that breaks its own rules."""


class RecipeError(ShardwellError):
    """A recipe that can't be loaded, or a corpus that is not what its recipe expects."""


class SourceError(ShardwellError):
    """An outside file that could not be brought or is not the pinned one."""


class ArchiveError(ShardwellError):
    """An archive that can't be inflated or indexed, or that lacks a member."""


class FeatureError(UsageError):
    """Feature parameters that make no sense together."""


class ClipError(ShardwellError):
    """One clip that can't be used."""


class BuildError(ShardwellError):
    """A build that can't go on."""


class OutputError(ShardwellError):
    """An output that can't be written."""


class RemoteError(ShardwellError):
    """A store elsewhere that can't be read or written."""


class UnreachableError(RemoteError):
    """A store elsewhere that does not answer, or is out of order."""


class ModelError(ShardwellError):
    """A saved model that is damaged, or that doesn't fit the data."""


class TrainingError(ShardwellError):
    """A training that can't go on."""


class DatasetError(ShardwellError):
    """A directory that is not a sealed dataset, or a damaged one."""


class Lines(str):
    """A message of several lines, each made printable by itself."""


def printable(text: str) -> str:
    """A text in one line, signs that a terminal would act on as escapes.

    Names of files and columns, and what servers answer, are a stranger's words.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def lines(head: str, *more: str) -> Lines:
    """A message whose first line is followed by others, set in."""
    return Lines("\n  ".join(printable(line) for line in (head, *more)))


def to_mend(where: object, mistakes: Sequence[str], shown: int = 50) -> Lines:
    """The message of all mistakes of a file or folder at once, the first ``shown`` in words.

    What a mistake quotes may be as long as the file: it is cut.

    >>> print(to_mend("x.toml", ["name: missing", "size: missing"], shown=1))
    x.toml: 2 mistakes to mend
      name: missing
      … and 1 more
    """
    head = f"{where}: {len(mistakes)} mistake{'s' * (len(mistakes) > 1)} to mend"
    more = [f"… and {len(mistakes) - shown} more"] if len(mistakes) > shown else []
    told = [m if len(m) <= LONGEST else f"{m[:LONGEST]}…" for m in mistakes[:shown]]
    return lines(head, *told, *more)


def example_name(keys: Sequence[str], i: int) -> str:
    """What an error calls an example of a batch: its key; its number where keys are not served.

    >>> example_name(["yes/anna.wav"], 0), example_name((), 3)
    ('yes/anna.wav', 'example 3 of the batch (key=True names it)')
    """
    return keys[i] if keys else f"example {i} of the batch (key=True names it)"


def unknown_name(what: str, got: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not known: lists the known ones, the nearest first.

    >>> str(unknown_name("recipe", "mnits", ["digit_sum", "mnist"]))
    "unknown recipe 'mnits': expected one of mnist, digit_sum"
    """
    names = sorted(known)
    nearest = difflib.get_close_matches(got, names, n=3, cutoff=0.4)
    ordered = nearest + [name for name in names if name not in nearest]
    return UnknownNameError(
        f"unknown {what} {got!r}: expected one of {', '.join(ordered) or '(none known)'}"
    )
