"""Your own table (CSV, TSV, JSON lines) of recordings, or segments of them, and their labels.

A column is known by its name, or by a parameter (``label=intent``). Paths begin at the table, or at
``folder`` beside it. All mistakes of a table are reported at once.
"""

import logging
import math
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.audio import Audio, load_audio, measure
from pipeline.errors import ClipError, RecipeError, UsageError, to_mend
from pipeline.recipe import RESERVED, Corpus, Recipe
from pipeline.records import Example, Ref
from pipeline.splits import share_out, split_named
from pipeline.tables import ENDINGS, Row, Table, read_table

LOG = logging.getLogger("pipeline.recipes")
NAMES = {  # role → the names that columns of it go by
    "audio": ("audio", "path", "file", "file_name", "filename", "audio_path", "audio_filepath"),
    "key": ("key", "id"),
    "label": ("label",),
    "text": ("text", "sentence", "transcript", "transcription"),
    "speaker": ("speaker", "speaker_id", "client_id"),
    "split": ("split",),
    "start": ("start",),
    "end": ("end",),
}
LABELS = {"label": "class", "text": "text", "speaker": "text"}
BEYOND = 0.01  # seconds that an end may lie behind the clip's: people round
Mistakes = list[tuple[int, str]]


@dataclass(frozen=True)
class Wanted:
    """The protocol's parameters: a column for each role ("": by its usual names), and the rest.

    Attributes:
        group: the column whose values are shared out to splits ("": speaker, or else the file).
        keep, leave: further columns to keep as text labels, and to leave out (``all``: all others).
        folder: where paths begin, seen from the table.
    """

    audio: str
    key: str
    label: str
    text: str
    speaker: str
    split: str
    start: str
    end: str
    group: str
    keep: Sequence[str]
    leave: Sequence[str]
    folder: str
    shares: Sequence[int]
    seed: int


def files(given: Path, found: Sequence[str], **params: object) -> list[str]:
    """The table and the recordings that it names, once it is found to be without mistakes."""
    tables = [name for name in found if "/" not in name] if found else [given.name]
    tables = [name for name in tables if name.lower().endswith(ENDINGS)]
    if len(tables) != 1:
        raise UsageError(
            f"{given}: expected one table ({', '.join(ENDINGS)}), got {', '.join(tables) or 'none'}"
        )
    root, (name,) = given if found else given.parent, tables
    wanted = Wanted(**params)  # type: ignore[arg-type]
    table = read_table(name, (root / name).read_bytes())
    columns, mistakes = _checked(table, wanted)
    measured: dict[str, tuple[int, int] | None] = {}
    for row in table.rows if "audio" in columns else ():
        mistakes += _mistakes_on_disk(root, row, columns, wanted, measured)
    if mistakes or not table.rows:
        lines = [f"line {line}: {told}" for line, told in sorted(mistakes)]
        raise RecipeError(to_mend(root / name, lines or ["holds no row"]))
    return [name, *dict.fromkeys(_member(row, columns, wanted) for row in table.rows)]


def _checked(table: Table, wanted: Wanted) -> tuple[dict[str, str], Mistakes]:
    """Role → column, and all that is wrong with the table itself."""
    columns, mistakes = _columns(table.columns, wanted)
    mistakes += table.mistakes
    lines: dict[str, int] = {}
    for row in table.rows:
        mistakes += [(row.line, told) for told in _mistakes(row, columns)]
        if "audio" in columns:
            key = _key(row, columns)
            if key in lines:
                mistakes.append((row.line, f"the key {key} stands in line {lines[key]}, too"))
            lines.setdefault(key, row.line)
    return columns, mistakes


def _columns(header: Sequence[str], wanted: Wanted) -> tuple[dict[str, str], Mistakes]:
    """Role → column (``group`` is one where it is named), and what is wrong with the header."""
    columns, mistakes = {}, []
    free = [name for name in header if name not in wanted.leave]
    for role in (*NAMES, "group"):
        named, usual = getattr(wanted, role), NAMES.get(role, ())
        matching = [name for name in free if name.lower() in usual]
        if named:
            matching = [named] if named in header else []
        if named and not matching:
            mistakes.append(
                f"no column {named}, which {role}={named} asks for; there are {', '.join(header)}"
            )
        elif len(matching) > 1:
            mistakes.append(
                f"the columns {' and '.join(matching)} may both mean {role}; choose one, as "
                f"--params {role}={matching[0]}, and leave={matching[1]}"
            )
        if matching:
            columns[role] = matching[0]
    if "audio" not in columns and not wanted.audio:
        mistakes.append(
            f"no column of paths: expected {', '.join(NAMES['audio'])}, or --params audio=COLUMN"
        )
    for name in wanted.keep:
        if name not in header:
            mistakes.append(f"no column {name}, which keep asks for")
        elif not name.isidentifier() or name in (*RESERVED, *LABELS):
            mistakes.append(f"column {name}: can't be kept by that name; rename it")
    unused = [name for name in free if name not in (*columns.values(), *wanted.keep)]
    if unused and "all" not in wanted.leave and header:
        joined = "+".join(unused)
        mistakes.append(
            f"columns {', '.join(unused)}: not used; keep them as texts with --params "
            f"keep={joined}, or leave them out with --params leave={joined}"
        )
    return columns, [(1, told) for told in mistakes]


def _mistakes(row: Row, columns: Mapping[str, str]) -> Iterator[str]:
    """What is wrong with the values of one row."""
    values = {role: row.values[column].strip() for role, column in columns.items()}
    grouped = () if "split" in values else ("group" if "group" in values else "speaker",)
    for role in ("audio", "key", "label", "split", *grouped):
        if not values.get(role, "something"):
            yield f"column {columns[role]} is empty"
    if values.get("split") and not split_named(values["split"]):
        yield f"split {values['split']}: expected train, validation or test"
    if values.get("audio", "").lower().endswith(ENDINGS):
        yield f"{values['audio']}: expected a recording, got a table"
    try:
        start, end = _segment(row, columns)
    except ValueError as error:
        yield str(error)
        return
    if not 0 <= start < math.inf or not start < end:
        yield f"a segment from {start} to {end} s: expected 0 or more, and an end behind its start"


def _segment(row: Row, columns: Mapping[str, str]) -> tuple[float, float]:
    """(start, end) of a row in seconds; an end that is not given is infinite."""
    times = []
    for role, otherwise in (("start", 0.0), ("end", math.inf)):
        text = row.values[columns[role]].strip() if role in columns else ""
        try:
            times.append(float(text) if text else otherwise)
        except ValueError:
            raise ValueError(f"{role} {text}: expected seconds, as 1.25") from None
    return times[0], times[1]


def _mistakes_on_disk(
    root: Path,
    row: Row,
    columns: Mapping[str, str],
    wanted: Wanted,
    measured: dict[str, tuple[int, int] | None],
) -> Mistakes:
    """Whether a row's file is missing, or its segment lies beyond; a broken file is no mistake."""
    name = _member(row, columns, wanted)
    file = root / name
    if not row.values[columns["audio"]].strip():
        return []
    if not os.path.isfile(file):  # noqa: PTH113 (Path's raises where a name is too long)
        return [(row.line, f"no file {file}")]
    try:
        start, end = _segment(row, columns)
    except ValueError:
        return []
    if (start, end) == (0, math.inf):
        return []
    if name not in measured:
        measured[name] = _measured(file.read_bytes())
    rate, samples = measured[name] or (1, 1 << 62)
    length = samples / rate
    last = start if end == math.inf else end
    if start >= length or last > length + BEYOND:
        return [(row.line, f"{last} s lies beyond {name}, which lasts {length:.3f} s")]
    return []


def _measured(data: bytes) -> tuple[int, int] | None:
    """(rate, samples) of a recording; None for a broken one, which who decodes it will name."""
    try:
        return measure(data)
    except ClipError:
        return None


def _member(row: Row, columns: Mapping[str, str], wanted: Wanted) -> str:
    return posixpath.join(wanted.folder, row.values[columns["audio"]].strip())


def _key(row: Row, columns: Mapping[str, str]) -> str:
    """The key in the table; else the path, however it is spelt, and the segment."""
    if "key" in columns:
        return row.values[columns["key"]].strip()
    path = posixpath.normpath(row.values[columns["audio"]].strip())
    times = "-".join(row.values[columns[r]].strip() for r in ("start", "end") if r in columns)
    return f"{path}#{times}" if times.strip("-") else path


def _opened(corpus: Corpus, wanted: Wanted) -> tuple[Table, dict[str, str]]:
    (name,) = (name for name in corpus.members("data") if name.lower().endswith(ENDINGS))
    table = read_table(name, corpus.read(corpus.ref("data", name)))
    return table, _columns(table.columns, wanted)[0]


def examples(corpus: Corpus, **params: object) -> Iterator[Example]:
    """Every row, in the split that it names, or that its group's hash gives it."""
    wanted = Wanted(**params)  # type: ignore[arg-type]
    table, columns = _opened(corpus, wanted)
    by = next(role for role in ("split", "group", "speaker", "audio") if role in columns)
    groups = [row.values[columns[by]].strip() for row in table.rows]
    LOG.info("splits are by %scolumn %s", "a hash of " * (by != "split"), columns[by])
    splits = {group: split_named(group) for group in groups}
    if by != "split":
        splits = dict(share_out(groups, wanted.shares, wanted.seed))
    measured: dict[str, tuple[int, int] | None] = {}
    rows = zip(table.rows, groups, strict=True)
    for row, group in sorted(rows, key=lambda pair: _member(pair[0], columns, wanted)):
        labels = {role: row.values[columns[role]].strip() for role in LABELS if role in columns}
        labels |= {name: row.values[name] for name in wanted.keep}
        name = _member(row, columns, wanted)
        ref = _cut(corpus, corpus.ref("data", name), _segment(row, columns), measured)
        yield Example(_key(row, columns), str(splits[group]), (ref,), labels)


def _cut(
    corpus: Corpus,
    whole: Ref,
    segment: tuple[float, float],
    measured: dict[str, tuple[int, int] | None],
) -> Ref:
    """The samples of a segment; all of a broken recording, so that who decodes it names it."""
    start, end = segment
    if segment == (0, math.inf):
        return whole
    if whole.source not in measured:
        measured[whole.source] = _measured(corpus.read(whole))
    known = measured[whole.source]
    if known is None:
        return whole
    stop = None if end == math.inf else min(round(end * known[0]), known[1])
    return replace(whole, start=round(start * known[0]), stop=stop)


def fitted(recipe: Recipe, corpus: Corpus, **params: object) -> Recipe:
    """With a label for each column that is one."""
    wanted = Wanted(**params)  # type: ignore[arg-type]
    _, columns = _opened(corpus, wanted)
    labels = {role: kind for role, kind in LABELS.items() if role in columns}
    hints = {"target": "label", "model": "bcresnet"}
    if "label" not in columns:
        hints = {"target": "text", "model": "dnn_ctc"} if "text" in columns else {}
    return replace(recipe, labels=labels | dict.fromkeys(wanted.keep, "text"), hints=hints)


RECIPE = Recipe(
    name="table",
    version=1,
    labels={},
    features=("mfcc", "log_mel", "spectrogram", "waveform"),
    examples=examples,
    load=load_audio,
    audio=Audio(sample_rate=16000),
    files=files,
    fitted=fitted,
    foreign=True,
)
