"""The page: one HTML file that needs nothing but itself.

What people have named (labels, keys, texts) reaches the page through a template that escapes all of
it, and the browser through a policy that lets only our own script and style run.
"""

import hashlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from pipeline.dataset import NAME, Sealed, stored_as, target_of
from pipeline.files import sha256_of
from pipeline.report.charts import Histogram, histogram, number
from pipeline.report.examples import tiles
from pipeline.report.means import about_means, means
from pipeline.report.measures import LENGTH, MEASURES, Measure, length_of, noun_of, unknowable
from pipeline.report.problems import BAD, Judged, problems
from pipeline.report.strange import CLIPPED, FLOORS, STRANGE
from pipeline.report.survey import Survey

TOP = 3  # problems that get a card
ROWS = 200  # of a table at most
LETTERS = 600  # of a name or text at most
CLOSE = 20  # twins, speakers, findings that are listed


@dataclass(frozen=True)
class SplitRow:
    """One split in numbers for people."""

    name: str
    examples: int
    share: float
    lengths: str
    total: str
    speakers: str


@dataclass(frozen=True)
class LabelRow:
    """One class: its examples in every split, and its bar: (split, left, width) in percent."""

    name: str
    counts: Sequence[int]
    total: int
    minutes: str
    pieces: Sequence[tuple[int, float, float]]


@dataclass(frozen=True)
class LabelTable:
    """A label's classes; ``more`` of them are not shown."""

    name: str
    rows: Sequence[LabelRow]
    more: int
    audio: bool


def page(judged: Judged) -> str:
    """The HTML of a dataset's report."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("pipeline.report", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_brief,
    )
    return environment.get_template("page.html").render(content(judged))


def _brief(value: object) -> object:
    """A text that somebody else wrote, cut if it is long: the page stays small for any dataset."""
    if type(value) is str and len(value) > LETTERS:
        return f"{value[:LETTERS]}…"
    return value


def content(judged: Judged) -> Mapping[str, Any]:
    """All that the template shows."""
    found = judged.found
    seen, absent = problems(judged)
    shown = tiles(found, judged.strange)
    return {
        "policy": _policy(),
        "corpus": found.sealed.info["corpus"],
        "info": found.sealed.info,
        "digest": sha256_of(found.sealed.folder / NAME)[:16],
        "what": stored_as(found.sealed),
        "noun": noun_of(found.sealed.feature),
        "clips": int(found.regular.sum()),
        "total": _total(found, found.regular),
        "problems": seen,
        "top": seen[:TOP],
        "bad": sum(problem.weight == BAD for problem in seen),
        "absent": absent,
        "unknowable": unknowable(found.sealed.feature),
        "splits": _splits(judged),
        "labels": _labels(found),
        "histograms": _histograms(judged),
        "strange": int((judged.strange.scores[found.regular] >= STRANGE).sum()),
        "speakers": judged.speakers,
        "twins": _twins(judged),
        "more_twins": max(len(judged.twins) - CLOSE, 0),
        "findings": _findings(found.sealed),
        "close": CLOSE,
        "about_means": about_means(found.sealed.feature.kind),
        "means": means(found),
        "tiles": shown,
        "plays": any(tile.sound for tile in shown),
        "search": _search(shown),
    }


def _policy() -> str:
    """What the browser may do: run our script, take our style, show and play what is inside."""
    held = files("pipeline.report")
    hashes = {
        name: b64encode(hashlib.sha256(_inlined(held / name)).digest()).decode()
        for name in ("page.js", "page.css")
    }
    return (
        f"default-src 'none'; script-src 'sha256-{hashes['page.js']}'; "
        f"style-src 'sha256-{hashes['page.css']}'; img-src data:; media-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _inlined(path: Any) -> bytes:
    """A file as the template puts it between its tags: without the last end of line."""
    return bytes(path.read_text(encoding="utf-8").removesuffix("\n").encode())


def _total(found: Survey, mask: Any) -> str:
    """Hours of sound, or nothing to be told."""
    if noun_of(found.sealed.feature) != "audio":
        return ""
    seconds = float(found.measures[LENGTH][mask].sum(dtype=np.float64))
    return f"{seconds / 3600:,.2f} h" if seconds >= 360 else f"{seconds / 60:,.1f} min"


def _splits(judged: Judged) -> list[SplitRow]:
    found, rows = judged.found, []
    measure = length_of(found.sealed.feature)[0]
    for split, name in enumerate(found.names):
        mask = found.splits == split
        values, told = found.measures[LENGTH][mask], "–"
        if len(values):
            low, middle, high = np.percentile(values, [0, 50, 100]).tolist()
            told = " · ".join(number(v, measure.digits) for v in dict.fromkeys((low, middle, high)))
        speakers = f"{judged.speakers.counts[split]:,}" if judged.speakers else ""
        share = 100 * len(values) / max(len(found), 1)
        row = SplitRow(name, len(values), share, told, _total(found, mask), speakers)
        rows.append(row)
    return rows


def _labels(found: Survey) -> list[LabelTable]:
    """Every class label, the one that a model would learn first."""
    names = sorted(found.sealed.classes, key=lambda name: name != target_of(found.sealed))
    return [_label_table(found, name) for name in names]


def _label_table(found: Survey, name: str) -> LabelTable:
    """The first classes of a label, with their bars."""
    counts, classes = found.counts(name), found.sealed.classes[name]
    most = max(int(counts.sum(axis=1).max(initial=1)), 1)
    audio, labels = noun_of(found.sealed.feature) == "audio", np.asarray(found.labels[name])
    known = labels >= 0
    seconds = np.bincount(labels[known], found.measures[LENGTH][known], len(classes))
    rows = []
    for number_of, own in enumerate(counts[:ROWS]):
        tops = np.cumsum(own)
        pieces = [
            (split, 100 * (top - count) / most, 100 * count / most)
            for split, (top, count) in enumerate(zip(tops.tolist(), own.tolist(), strict=True))
            if count
        ]
        minutes = f"{seconds[number_of] / 60:,.1f}" if audio else ""
        rows.append(LabelRow(classes[number_of], own.tolist(), int(own.sum()), minutes, pieces))
    return LabelTable(name, rows, max(len(classes) - ROWS, 0), audio)


def _histograms(judged: Judged) -> list[Histogram]:
    found = judged.found
    known = {LENGTH: length_of(found.sealed.feature)[0], **MEASURES}
    made = [
        histogram(known[name], values, found.splits, len(found.names), name in FLOORS)
        for name, values in found.measures.items()
    ]
    if judged.strange.pace is not None:
        pace, told = judged.strange.pace, judged.strange.pace > 0
        unit = f"{known[LENGTH].unit} per character"
        about = "Length divided by the characters of its text."
        measure = Measure("Pace", unit, 3, about, "")
        made.insert(1, histogram(measure, pace[told], found.splits[told], len(found.names), False))
    return [one for one in made if one]


def _twins(judged: Judged) -> list[dict[str, Any]]:
    found, target = judged.found, target_of(judged.found.sealed)
    return [
        {
            "clips": [
                {
                    "key": found.keys[clip],
                    "split": found.names[found.splits[clip]],
                    "label": found.label(target, clip) if target else "",
                }
                for clip in group.clips[:CLOSE]
            ],
            "labels": group.labels,
            "splits": group.splits,
        }
        for group in judged.twins[:CLOSE]
    ]


def _findings(sealed: Sealed) -> list[Mapping[str, Any]]:
    """What a preparation found: left out before odd, silent or truncated before clipped."""
    return sorted(
        sealed.info["findings"],
        key=lambda f: (not f["left_out"], f["reason"].startswith(CLIPPED), f["key"]),
    )


def _search(shown: Sequence[Any]) -> list[dict[str, Any]]:
    """What the page's script searches and sorts by, a row per example."""
    return [
        {
            "find": " ".join([t.label, t.key, t.speaker, *t.reasons, t.text]).lower()[
                : 2 * LETTERS
            ],
            "label": t.label[:LETTERS],
            "split": t.split,
            "score": t.score,
            "length": t.length,
        }
        for t in shown
    ]
