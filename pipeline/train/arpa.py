r"""ARPA files: a back-off model as text, as SRILM and KenLM read and write it.

    \data\
    ngram 1=4
    ngram 2=5

    \1-grams:
    -0.9<tab>the<tab>-0.3        log10 of the probability, n-gram, log10 of the back-off weight
    …
    \end\

A missing back-off weight is 0. Numbers are written with all their digits: what is read is what was
written, bit for bit.
"""

import math
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import ModelError
from pipeline.files import written
from pipeline.train.ngram import NEVER, UNKNOWN, Gram, NGram

LONGEST_LINE = 1 << 16  # characters
HIGHEST_ORDER = 32
COUNT = re.compile(r"ngram ([1-9][0-9]?)=([0-9]{1,15})")

Lines = Iterator[tuple[int, str]]
Table = dict[Gram, tuple[float, float]]


def write_arpa(path: Path, model: NGram) -> None:
    """Write a model, whole or not at all; n-grams in the order of their words."""
    with written(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as out:
        out.write("\\data\\\n")
        out.writelines(f"ngram {n}={len(table)}\n" for n, table in enumerate(model.tables, 1))
        for n, table in enumerate(model.tables, 1):
            out.write(f"\n\\{n}-grams:\n")
            for gram in sorted(table):
                probability, back_off = table[gram]
                end = "" if n == model.order else f"\t{back_off!r}"
                out.write(f"{probability!r}\t{' '.join(gram)}{end}\n")
        out.write("\n\\end\\\n")


def read_arpa(path: Path) -> NGram:
    """Read a model; one without ``<unk>`` gets it with a probability of 10^-99.

    Raises:
        ModelError: no such file, no ARPA file, a line that is none of it, numbers that are no
            logarithms of probabilities, n-grams twice, or not as many as were announced.
    """
    try:
        with path.open(encoding="utf-8") as file:
            lines = _lines(path, file)
            counts = _announced(path, lines)
            tables: list[Table] = []
            for n, count in enumerate(counts, 1):
                tables.append(_table(path, lines, n, len(counts), count))
    except (OSError, UnicodeDecodeError) as error:
        reason = "no UTF-8 text" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise ModelError(f"{path}: expected an ARPA file: {reason}") from None
    tables[0].setdefault((UNKNOWN,), (NEVER, 0.0))
    return NGram(tuple(tables))


def _lines(path: Path, file: object) -> Lines:
    """Numbered lines without what surrounds them; a line without end is not read whole."""
    number = 0
    while line := file.readline(LONGEST_LINE):  # type: ignore[attr-defined]
        number += 1
        if len(line) == LONGEST_LINE:
            raise _wrong(path, number, "a line of fewer than 65,536 characters", line)
        yield number, line.strip(" \t\r\n")
    raise ModelError(f"{path}: cut short at line {number}: expected \\end\\ at the end")


def _wrong(path: Path, number: int, expected: str, got: str) -> ModelError:
    return ModelError(f"{path} line {number}: expected {expected}, got {got[:60]!r}")


def _announced(path: Path, lines: Lines) -> list[int]:
    """The counts of the header, up to the first order's title."""
    for number, line in lines:
        if line == "\\data\\":
            break
        if line:
            raise _wrong(path, number, "\\data\\", line)
    counts: list[int] = []
    for number, line in lines:
        if line == "\\1-grams:" and counts:
            return counts
        found = COUNT.fullmatch(line)
        if line and not (found and int(found[1]) == len(counts) + 1 <= HIGHEST_ORDER):
            raise _wrong(path, number, f"ngram {len(counts) + 1}=COUNT", line)
        if found:
            counts.append(int(found[2]))
    return counts


def _table(path: Path, lines: Lines, n: int, order: int, count: int) -> Table:
    """One order's n-grams, up to the next one's title or the end."""
    table: Table = {}
    title = f"\\{n + 1}-grams:" if n < order else "\\end\\"
    for number, line in lines:
        if line == title:
            if len(table) != count:
                raise _wrong(path, number, f"{count} {n}-grams before {title}", f"{len(table)}")
            return table
        if not line:
            continue
        fields = line.replace("\t", " ").split(" ")
        gram = tuple(fields[1 : n + 1])
        if len(fields) not in (n + 1, n + 2) or "" in fields:
            raise _wrong(path, number, f"a number, {n} words, perhaps a number, or {title}", line)
        if gram in table:
            raise _wrong(path, number, "no n-gram twice", line)
        back_off = _logarithm(path, number, fields[n + 1]) if len(fields) == n + 2 else 0.0
        table[gram] = (_logarithm(path, number, fields[0], most=0.0), back_off)
    return table


def _logarithm(path: Path, number: int, field: str, most: float = 99.0) -> float:
    """A number from -99 (never) to ``most``."""
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not -math.inf < value <= most:
        raise _wrong(path, number, f"a logarithm, {most:g} at most", field)
    return value
