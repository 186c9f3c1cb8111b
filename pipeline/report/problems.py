"""What a person should look at first: everything that is wrong or odd, the worst first."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.dataset import target_of
from pipeline.features import Waveform
from pipeline.report.measures import LENGTH, MEASURES, noun_of
from pipeline.report.strange import CLIPPED, FLOORS, SILENT, WILD, Strange
from pipeline.report.survey import NOISE, Survey
from pipeline.report.twins import Speakers, Twins
from pipeline.report.wild import LOUDEST

UNEVEN = 5  # times as many examples of one class as of another
NAMED = 5  # of missing classes
BAD, ODD, NOTE = "bad", "odd", "note"


@dataclass(frozen=True)
class Problem:
    """Something to look at.

    Attributes:
        weight: ``bad`` harms results, ``odd`` may, ``note`` is only to be known.
        count: how many clips (or speakers, classes) it is about.
        title, text: what it is, and what to do about it.
        section: where the page shows it; ``find`` is what to search the examples for there.
    """

    weight: str
    count: int
    title: str
    text: str
    section: str
    find: str = ""


@dataclass(frozen=True)
class Judged:
    """All that problems are found in."""

    found: Survey
    strange: Strange
    twins: Sequence[Twins]
    speakers: Speakers | None


def problems(judged: Judged) -> tuple[list[Problem], list[str]]:
    """The problems, the worst first, and in a few words what was looked for and not found."""
    seen: list[Problem] = []
    absent = []
    for check in CHECKS:
        more = list(check.look(judged))
        seen += more
        if not more and check.sensible(judged):
            absent.append(check.called.format(noun=noun_of(judged.found.sealed.feature)))
    order = (BAD, ODD, NOTE)
    return sorted(seen, key=lambda problem: order.index(problem.weight)), absent


def some(count: int, what: str, plural: str = "") -> str:
    """A count with its noun: ``1 clip``, ``2,000 clips``, ``2 classes``."""
    return f"{count:,} {what if count == 1 else plural or what + 's'}"


def _empty(judged: Judged) -> Iterator[Problem]:
    count = int((judged.found.measures[LENGTH] == 0).sum())
    if count:
        yield Problem(BAD, count, f"{some(count, 'example')} of no length", "", "lengths")


def _wild(judged: Judged) -> Iterator[Problem]:
    count = int((judged.found.wild & judged.found.regular).sum())
    if count:
        text = "Not finite, or far too large, as in a damaged file: one spoils a whole training."
        if _has_samples(judged):
            text = f"Not finite, or over {LOUDEST:.0f} times full scale: damaged, or not scaled."
        yield Problem(BAD, count, f"{some(count, 'clip')} with {WILD}", text, "examples", WILD)


def _left_out(judged: Judged) -> Iterator[Problem]:
    left = [f for f in judged.found.sealed.info["findings"] if f["left_out"]]
    if left:
        text = "They could not be used when the dataset was prepared; none of them is in it."
        yield Problem(BAD, len(left), f"{some(len(left), 'clip')} left out", text, "findings")


def _two_labels(judged: Judged) -> Iterator[Problem]:
    text = "At least one of the labels is wrong. Leave these examples out, or mend the source."
    yield from _equal(judged, lambda t: t.labels > 1, BAD, ", different labels", text)


def _across(judged: Judged) -> Iterator[Problem]:
    text = "A model is tested on what it was trained on, and looks better than it is."
    yield from _equal(judged, lambda t: t.splits > 1, BAD, " in two splits", text)


def _within(judged: Judged) -> Iterator[Problem]:
    text = "Equal to the last bit, in one split, with one label: they count double."
    yield from _equal(judged, lambda t: t.splits == t.labels == 1, ODD, " under two names", text)


def _equal(
    judged: Judged, which: Callable[[Twins], bool], weight: str, how: str, text: str
) -> Iterator[Problem]:
    count, noun = sum(map(which, judged.twins)), noun_of(judged.found.sealed.feature)
    if count:
        title = f"Same {noun}{how}: {some(count, 'case')}"
        yield Problem(weight, count, title, text, "leaks", f"same {noun}")


def _speakers(judged: Judged) -> Iterator[Problem]:
    shared = judged.speakers.shared if judged.speakers else ()
    if shared:
        count = len({name for *_, names in shared for name in names})
        text = "A model has heard them before it is tested; results on new voices will be worse."
        yield Problem(BAD, count, f"{some(count, 'speaker')} in more than one split", text, "leaks")


def _missing_classes(judged: Judged) -> Iterator[Problem]:
    found, target = judged.found, target_of(judged.found.sealed)
    if target is None:
        return
    for split, counts in zip(found.names, found.counts(target).T, strict=True):
        missing = np.flatnonzero(counts == 0).tolist()
        if missing and split != NOISE:
            names = ", ".join(f"“{found.sealed.classes[target][i]}”" for i in missing[:NAMED])
            names += ", …" if len(missing) > NAMED else ""
            title = f"{some(len(missing), 'class', 'classes')} of {target} missing from {split}"
            text = f"No example of {names}: " + (
                "it can't be learned." if split == "train" else "nobody sees how well it is told."
            )
            yield Problem(BAD if split == "train" else ODD, len(missing), title, text, "labels")


def _silent(judged: Judged) -> Iterator[Problem]:
    yield from _prepared(judged, SILENT, BAD, "No sound above −60 dB of full scale, but a label.")


def _clipped(judged: Judged) -> Iterator[Problem]:
    if isinstance(judged.found.sealed.feature, Waveform):
        text = "At least one sample in a thousand is at full scale: distorted."
        yield from _measured(judged, "clipped", "clipped", text)
    else:
        text = "Samples were cut off at full scale when they were recorded: distorted."
        yield from _prepared(judged, CLIPPED, ODD, text)


def _truncated(judged: Judged) -> Iterator[Problem]:
    yield from _prepared(judged, "truncated", ODD, "The file promises more than there is.")


def _prepared(judged: Judged, word: str, weight: str, text: str) -> Iterator[Problem]:
    findings = judged.found.sealed.info["findings"]
    count = sum(not f["left_out"] and word in f["reason"] for f in findings)
    if count:
        title = f"{some(count, 'clip')} {'is' if count == 1 else 'are'} {word}"
        yield Problem(weight, count, title, text, "examples", word)


def _measured(judged: Judged, name: str, how: str, text: str) -> Iterator[Problem]:
    values = judged.found.measures.get(name)
    if values is not None:
        count = int((values[judged.found.regular] >= FLOORS[name]).sum())
        if count:
            title, find = f"{some(count, 'clip')} {how}", MEASURES[name].high  # as reasons begin
            yield Problem(ODD, count, title, text, "levels", find)


def _offset(judged: Judged) -> Iterator[Problem]:
    text = "Their samples do not swing about zero; a high-pass filter mends it."
    yield from _measured(judged, "offset", "off centre", text)


def _quiet(judged: Judged) -> Iterator[Problem]:
    for name in ("quiet", "still"):
        text = f"{FLOORS[name]:.0f} % of them and more: padding, or nothing was said."
        yield from _measured(judged, name, "with much silence", text)


def _pace(judged: Judged) -> Iterator[Problem]:
    count = int(judged.strange.fast_or_slow.sum())
    if count:
        title = f"{some(count, 'clip')} too long or too short for the text"
        text = "Length per character is far from usual: pauses, or a transcript that does not fit."
        yield Problem(ODD, count, title, text, "lengths", "per character")


def _odd_length(judged: Judged) -> Iterator[Problem]:
    count = int(judged.strange.odd_length.sum())
    if count:
        title = f"{some(count, 'clip')} of unusual length"
        text = "Far longer or shorter than the others."
        yield Problem(NOTE, count, title, text, "lengths", "than usual")


def _uneven(judged: Judged) -> Iterator[Problem]:
    target = target_of(judged.found.sealed)
    if target is None or "train" not in judged.found.names:
        return
    counts = judged.found.counts(target)[:, judged.found.names.index("train")]
    some_of = counts[counts > 0]
    if len(some_of) > 1 and some_of.max() >= UNEVEN * some_of.min():
        name = judged.found.sealed.classes[target]
        most, least = name[counts.argmax()], name[np.where(counts > 0, counts, np.inf).argmin()]
        title = f"Classes are uneven: {some_of.max() / some_of.min():.0f} to 1"
        text = (
            f"“{most}” has {some_of.max():,} examples in train, “{least}” {some_of.min():,}; "
            "accuracy alone hides the rare ones."
        )
        yield Problem(NOTE, len(some_of), title, text, "labels")


def _always(judged: Judged) -> bool:
    return True


def _is_audio(judged: Judged) -> bool:
    return noun_of(judged.found.sealed.feature) == "audio"


def _has_classes(judged: Judged) -> bool:
    return target_of(judged.found.sealed) is not None


def _has_speakers(judged: Judged) -> bool:
    return judged.speakers is not None


def _has_texts(judged: Judged) -> bool:
    return judged.strange.pace is not None


def _has_samples(judged: Judged) -> bool:
    return isinstance(judged.found.sealed.feature, Waveform)


@dataclass(frozen=True)
class Check:
    """One thing to look for, what it is called where it is not found, and where it makes sense."""

    look: Callable[[Judged], Iterator[Problem]]
    called: str
    sensible: Callable[[Judged], bool] = _always


CHECKS = (
    Check(_two_labels, "the same {noun} under different labels"),
    Check(_across, "the same {noun} in two splits"),
    Check(_speakers, "speakers in two splits", _has_speakers),
    Check(_left_out, "clips left out"),
    Check(_wild, "values out of range", _is_audio),
    Check(_empty, "empty examples"),
    Check(_silent, "silent clips", _is_audio),
    Check(_missing_classes, "classes missing from a split", _has_classes),
    Check(_within, "the same {noun} twice in a split"),
    Check(_clipped, "clipping", _is_audio),
    Check(_truncated, "truncated files", _is_audio),
    Check(_offset, "DC offset", _has_samples),
    Check(_quiet, "much silence", _is_audio),
    Check(_pace, "texts that do not fit their clips", _has_texts),
    Check(_odd_length, "unusual lengths"),
    Check(_uneven, "uneven classes", _has_classes),
)
