"""The examples that the page shows: the strangest of every class, and some ordinary ones."""

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass

from pipeline.dataset import target_of
from pipeline.features import Tokens, Waveform
from pipeline.report.charts import number
from pipeline.report.drawing import base64, picture, sound
from pipeline.report.measures import LENGTH, MEASURES, length_of
from pipeline.report.strange import STRANGE, Strange
from pipeline.report.survey import SPEAKER, Survey, transcript_of

SHOWN, STRANGEST, ORDINARY = 144, 84, 2  # examples; of them strange ones; ordinary per group
ALIKE = 5  # strange examples, at least, of every kind of reason
SOUND_BYTES, SOUND_SECONDS = 4_000_000, 4.0  # of all sounds; of one
TOKENS = 64  # of a sequence that are shown


@dataclass(frozen=True)
class Tile:
    """One example as the page shows it; ``picture`` and ``sound`` are base64, "" for none.

    ``cut``: only its beginning is heard.
    """

    key: str
    split: str
    label: str
    speaker: str
    text: str
    score: float
    length: float
    facts: Sequence[str]
    reasons: Sequence[str]
    picture: str
    sound: str
    cut: bool


def tiles(found: Survey, judged: Strange) -> list[Tile]:
    """The chosen examples, strangest first, with as many sounds as there is room for."""
    room, made = SOUND_BYTES, []
    for clip in chosen(found, judged):
        tile = _tile(found, judged, clip, room)
        room -= len(tile.sound) * 3 // 4
        made.append(tile)
    return made


def chosen(found: Survey, judged: Strange) -> list[int]:
    """Numbers of clips: the strange ones, then ordinary ones of each group."""
    order = judged.order(found.keys)
    order = order[found.regular[order]]
    strange = _strange(found, judged, order[judged.scores[order] >= STRANGE].tolist())
    return strange + _ordinary(found, order[::-1].tolist(), set(strange))


def _strange(found: Survey, judged: Strange, order: Sequence[int]) -> list[int]:
    """Some for every kind of reason, then the strangest, not too many of one group."""
    most = max(3, STRANGEST // max(len(found.group_names), 1))
    kinds, groups = Counter[str](), Counter[int]()
    taken: set[int] = set()
    for clip in order:
        own = {why.split()[0] for why in judged.reasons.get(clip, ())}
        if len(taken) < STRANGEST and any(kinds[kind] < ALIKE for kind in own):
            taken.add(clip)
            kinds.update(own)
            groups[int(found.groups[clip])] += 1
    for clip in order:
        if len(taken) < STRANGEST and clip not in taken and groups[int(found.groups[clip])] < most:
            taken.add(clip)
            groups[int(found.groups[clip])] += 1
    return [clip for clip in order if clip in taken]


def _ordinary(found: Survey, order: Sequence[int], shown: Set[int]) -> list[int]:
    """The most ordinary ones of every group, which come first in ``order``."""
    room = SHOWN - len(shown)
    enough = max(ORDINARY, room // max(len(found.group_names), 1) // 2)
    groups, ordinary = Counter[int](), list[int]()
    for clip in order:
        group = int(found.groups[clip])
        if len(ordinary) < room and groups[group] < enough and clip not in shown:
            ordinary.append(clip)
            groups[group] += 1
    return ordinary[::-1]


def _tile(found: Survey, judged: Strange, clip: int, room: int) -> Tile:
    features, sealed = found.features(clip), found.sealed
    transcript = transcript_of(sealed)
    text = found.label(transcript, clip) if transcript else ""
    group = int(found.groups[clip])
    heard, cut = b"", False
    if isinstance(sealed.feature, Waveform) and features.size:
        heard = sound(features, sealed.feature, SOUND_SECONDS)
        cut = len(features) > SOUND_SECONDS * sealed.feature.sample_rate
        heard = heard if len(heard) <= room else b""
    if isinstance(sealed.feature, Tokens):
        text = " ".join(map(str, features[:TOKENS].tolist())) + " …" * (len(features) > TOKENS)
    return Tile(
        key=found.keys[clip],
        split=found.names[found.splits[clip]],
        label=found.group_names[group] if group >= 0 and target_of(sealed) else "",
        speaker=found.label(SPEAKER, clip) if SPEAKER in found.labels else "",
        text=text,
        score=round(float(judged.scores[clip]), 2),
        length=round(float(found.measures[LENGTH][clip]), 4),
        facts=_facts(found, clip),
        reasons=judged.reasons.get(clip, ()),
        picture=base64(picture(found, features) or b""),
        sound=base64(heard),
        cut=bool(heard) and cut,
    )


def _facts(found: Survey, clip: int) -> list[str]:
    """A clip's length and its first measure, for people."""
    known = {LENGTH: length_of(found.sealed.feature)[0], **MEASURES}
    told = []
    for name, values in list(found.measures.items())[:2]:
        measure = known[name]
        what = "" if name == LENGTH else f"{measure.title.lower()} "
        value = number(float(values[clip]), measure.digits)
        told.append(f"{what}{value} {measure.unit}".strip())
    return told
