"""What more than one split holds, or one split twice: equal examples, and speakers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.dataset import target_of
from pipeline.report.survey import SPEAKER, Numbers, Survey, together, transcript_of


@dataclass(frozen=True)
class Twins:
    """Examples whose features are equal to the last bit.

    Attributes:
        clips: their numbers, two or more.
        labels: how many different labels they have, of the one that a model would learn.
        splits: how many splits they lie in.
    """

    clips: tuple[int, ...]
    labels: int
    splits: int


def twins(found: Survey) -> list[Twins]:
    """All such examples, those that do most harm first; recordings of noise are none."""
    regular = np.flatnonzero(found.regular)
    often = np.bincount(found.sounds[regular], minlength=len(found))
    several = regular[often[found.sounds[regular]] > 1]
    groups = [_twins(found, run) for run in together(several, found.sounds)]
    return sorted(groups, key=lambda t: (-(t.labels > 1), -(t.splits > 1), t.clips))


def _twins(found: Survey, clips: Numbers) -> Twins:
    target = target_of(found.sealed) or transcript_of(found.sealed)
    labels = {found.label(target, clip) for clip in clips.tolist()} if target else {""}
    return Twins(tuple(clips.tolist()), len(labels), len(np.unique(found.splits[clips])))


@dataclass(frozen=True)
class Speakers:
    """Who speaks where.

    Attributes:
        counts: speakers of each split.
        most: (speaker, examples) of those with most, all splits together.
        shared: (one split, another, speakers that both have), where there are any.
    """

    counts: Sequence[int]
    most: Sequence[tuple[str, int]]
    shared: Sequence[tuple[str, str, Sequence[str]]]


def speakers(found: Survey, shown: int) -> Speakers | None:
    """The speakers of every split; None where no label tells them. Noise has none."""
    if SPEAKER not in found.labels:
        return None
    values, regular = found.labels[SPEAKER], found.regular
    texts = isinstance(values, list)
    column = np.array(values, np.dtypes.StringDType() if texts else None)
    unknown = "" if texts else -1
    own = [
        np.unique(column[regular & (found.splits == split) & (column != unknown)])
        for split in range(len(found.names))
    ]
    shared = []
    for one, first in enumerate(found.names):
        for other, second in enumerate(found.names[one + 1 :], one + 1):
            both = np.intersect1d(own[one], own[other])
            if len(both):
                shared.append((first, second, [_name(found, value) for value in both]))
    names, counts = np.unique(column[regular & (column != unknown)], return_counts=True)
    most = np.argsort(-counts, kind="stable")[:shown]
    top = [(_name(found, names[i]), int(counts[i])) for i in most]
    return Speakers([len(some) for some in own], top, shared)


def _name(found: Survey, value: object) -> str:
    classes = found.sealed.classes.get(SPEAKER)
    return classes[int(str(value))] if classes else str(value)
