"""How strange every clip is, and why: what lies far from the rest, and what is there twice.

A number is as strange as its distance from the median in robust standard deviations (1.4826 times
the median absolute deviation, but at least a third of the plain one, for half of a column may be
the same value). A clip is as strange as its strangest number.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.report.measures import LENGTH, MEASURES, Floats, Measure, length_of, noun_of
from pipeline.report.survey import Numbers, Survey, together, transcript_of
from pipeline.report.twins import Twins

STRANGE = 4.0  # robust standard deviations: of 100,000 normal numbers six are that far out
LEAST = 0.05  # of the median: the smallest deviation
MOST = 20.0  # what a measure may count at most; equal examples and odd preparations count more
FLOORS = {"clipped": 0.1, "offset": 1.0, "quiet": 80.0, "still": 40.0}  # %: less harms nobody
FOUND, TWICE, TWICE_APART, TWO_LABELS, DAMAGED = 22.0, 24.0, 26.0, 28.0, 30.0
SILENT, CLIPPED = "silent", "clipped"  # how the findings of a preparation begin
WILD = "values out of range"
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Strange:
    """What is strange about the clips.

    Attributes:
        scores: (n,) how strange each clip is; noise never is.
        reasons: clip → why, the strongest reason first.
        pace: (n,) length per character of the transcript; None where there are no transcripts.
        fast_or_slow: (n,) whether that is far from usual.
        odd_length: (n,) whether the length is far from usual.
    """

    scores: Floats
    reasons: Mapping[int, Sequence[str]]
    pace: Floats | None
    fast_or_slow: Bools
    odd_length: Bools

    def order(self, keys: Sequence[str]) -> Numbers:
        """The clips, strangest first; those alike in no order that means anything."""
        ties = [hashlib.md5(key.encode(), usedforsecurity=False).digest()[:8] for key in keys]
        return np.lexsort((np.frombuffer(b"".join(ties), ">u8"), -self.scores))


def strange(found: Survey, groups: Sequence[Twins]) -> Strange:
    """Judge every clip."""
    judge = _Judge(found)
    for name in found.measures:
        if name != LENGTH:
            judge.measure(name, MEASURES[name])
    length = length_of(found.sealed.feature)[0]
    odd_length = judge.measure(LENGTH, length)
    pace = _pace(found)
    fast_or_slow = np.zeros(len(found), bool)
    if pace is not None:
        title = Measure("Pace", f"{length.unit} per character", 3, "", "slow", "fast")
        fast_or_slow = judge.values("pace", pace, title, pace > 0)
    judge.unlike()
    judge.wild()
    for group in groups:
        judge.twins(group)
    judge.findings()
    reasons = {clip: [why for _, why in sorted(r, reverse=True)] for clip, r in judge.why.items()}
    return Strange(judge.scores, reasons, pace, fast_or_slow, odd_length)


def _pace(found: Survey) -> Floats | None:
    name = transcript_of(found.sealed)
    if name is None:
        return None
    characters = np.array([len(str(text)) for text in found.labels[name]], np.float32)
    pace: Floats = np.where(
        characters > 0, found.measures[LENGTH] / np.maximum(characters, 1), 0
    ).astype(np.float32)
    return pace


def deviations(values: Floats) -> npt.NDArray[np.float64]:
    """Distances from the median in robust standard deviations; zeros where all are the same.

    A deviation is taken for at least a twentieth of the median: where all but agree, a small
    difference is not strange.
    """
    held = values.astype(np.float64)
    if not len(held):
        return held
    middle = np.median(held)
    spread = max(1.4826 * np.median(np.abs(held - middle)), held.std() / 3, LEAST * abs(middle))
    return (held - middle) / spread if spread > 1e-18 else 0 * held


class _Judge:
    def __init__(self, found: Survey) -> None:
        self.found, self.regular = found, found.regular
        self.noun = noun_of(found.sealed.feature)
        self.scores = np.zeros(len(found), np.float32)
        self.why: dict[int, list[tuple[float, str]]] = {}

    def _blame(self, clip: int, score: float, why: str) -> None:
        self.scores[clip] = max(self.scores[clip], score)
        self.why.setdefault(clip, []).append((score, why))

    def measure(self, name: str, measure: Measure) -> Bools:
        """Judge a measure of all clips; those that are far out."""
        return self.values(name, self.found.measures[name], measure, self.regular)

    def values(self, name: str, values: Floats, measure: Measure, among: Bools) -> Bools:
        """Judge any numbers, those ``among`` which count; those that are far out."""
        away = np.zeros(len(values))
        away[among] = np.clip(deviations(values[among]), -MOST, MOST)
        if name in FLOORS:  # harmful from some value on, however many clips are like that
            far = among & (values >= FLOORS[name])
            away = np.where(far, np.maximum(away, STRANGE), 0)
        elif not measure.low:
            away = np.maximum(away, 0)
        if measure.high or measure.low:
            self.scores = np.maximum(self.scores, np.abs(away)).astype(np.float32)
        far_out: Bools = np.abs(away) >= STRANGE
        for clip in np.flatnonzero(far_out).tolist():
            word = measure.high if away[clip] > 0 else measure.low
            if word:
                told = f"{values[clip]:.{measure.digits}f} {measure.unit}".replace("-", "−").strip()
                self._blame(clip, float(abs(away[clip])), f"{word}: {told}")
        return far_out

    def unlike(self) -> None:
        """Judge how far a clip's profile lies from the mean of its group, as its others do."""
        found, away = self.found, np.zeros(len(self.found))
        for own in together(np.flatnonzero(self.regular), found.groups):
            profiles = found.profiles[own]
            spread = profiles.std(axis=0)
            spread = np.maximum(spread, max(float(spread.mean()) / 2, 1e-6))  # some hardly move
            distances = (((profiles - profiles.mean(axis=0)) / spread) ** 2).mean(axis=1)
            away[own] = np.clip(deviations(np.log1p(distances)), 0, MOST)
        self.scores = np.maximum(self.scores, away).astype(np.float32)
        for clip in np.flatnonzero(away >= STRANGE).tolist():
            group = int(found.groups[clip])
            name = f"“{found.group_names[group]}”" if group >= 0 else "its group"
            self._blame(clip, float(away[clip]), f"unlike the others of {name}")

    def wild(self) -> None:
        """Blame clips whose values can't be right."""
        for clip in np.flatnonzero(self.found.wild & self.regular).tolist():
            self._blame(clip, DAMAGED, WILD)

    def twins(self, group: Twins) -> None:
        """Blame examples that are there twice, each with another one's key and place."""
        found = self.found
        score = TWO_LABELS if group.labels > 1 else TWICE_APART if group.splits > 1 else TWICE
        for clip, other in zip(group.clips, (*group.clips[1:], group.clips[0]), strict=True):
            split = found.names[found.splits[other]]
            self._blame(clip, score, f"same {self.noun} as {found.keys[other]} in {split}")

    def findings(self) -> None:
        """Blame the clips that were odd when they were prepared."""
        found = self.found
        reasons: dict[tuple[str, str], str] = {
            (str(f["split"]), str(f["key"])): str(f["reason"])
            for f in found.sealed.info["findings"]
            if not f["left_out"]
        }
        if not reasons:
            return
        for clip, key in enumerate(found.keys):
            why = reasons.get((found.names[found.splits[clip]], key))
            told = any(r.startswith(CLIPPED) for _, r in self.why.get(clip, ()))
            if why and self.regular[clip] and not (told and why.startswith(CLIPPED)):
                self._blame(clip, FOUND if why.startswith(SILENT) else STRANGE, why)
