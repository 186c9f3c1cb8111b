"""The examples that the page shows: the strangest of every class, and some ordinary ones."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.dataset import target_of
from pipeline.features import Tokens, Waveform
from pipeline.report.charts import number
from pipeline.report.drawing import base64, picture, sound
from pipeline.report.measures import LENGTH, MEASURES, length_of
from pipeline.report.strange import STRANGE, Strange
from pipeline.report.survey import SPEAKER, Survey, transcript_of

SHOWN, STRANGEST, ORDINARY = 144, 84, 2  # examples; of them strange ones; ordinary per group
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
    """Numbers of clips: the strangest, not too many of one group, then ordinary ones of each."""
    order = judged.order(found.keys)
    order = order[found.regular[order]].tolist()
    groups = found.groups.tolist()
    most = max(3, STRANGEST // max(len(found.group_names), 1))
    taken: dict[int, int] = {}
    strange: list[int] = []
    ordinary: list[int] = []
    for clip in order:
        group = groups[clip]
        if judged.scores[clip] < STRANGE or len(strange) == STRANGEST:
            break
        if taken.get(group, 0) < most:
            strange.append(clip)
            taken[group] = taken.get(group, 0) + 1
    shown, plain = set(strange), dict.fromkeys(range(-1, len(found.group_names)), 0)
    enough = max(ORDINARY, (SHOWN - len(strange)) // max(len(found.group_names), 1) // 2)
    for clip in reversed(order):  # from the most ordinary one on
        group = groups[clip]
        if len(strange) + len(ordinary) == SHOWN or plain[group] == enough or clip in shown:
            continue
        ordinary.append(clip)
        plain[group] += 1
    return strange + ordinary[::-1]


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
