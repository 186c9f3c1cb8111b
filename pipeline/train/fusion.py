"""An n-gram language model's say in a beam search, one character at a time.

What a whole text gets is α · ln p(text) + β · its words (or characters, where the model's words are
characters), whatever the order in which the search learns of it:

- a word counts when the space behind it comes, or the end;
- one that no known word begins like counts as ``<unk>`` at once, for nothing can save it;
- meanwhile the best known word that begins so far is hoped for (``hope``); it is no part of the
  score, but keeps unfinished words comparable with finished ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pipeline.errors import UsageError
from pipeline.train.ngram import BEGIN, END, UNKNOWN, Gram, NGram, log10_probability

SPACE = "\N{LOWER ONE EIGHTH BLOCK}"  # what a space is called in a model of characters
LN10 = math.log(10)


class Heard(NamedTuple):
    """A text so far, as the language model sees it.

    Attributes:
        history: the last words.
        begun: the word that no space has ended yet.
        lost: whether ``begun`` has counted as unknown already.
        score: what all that counted is worth.
        hope: what ``begun`` is worth at best.
    """

    history: Gram = (BEGIN,)
    begun: str = ""
    lost: bool = False
    score: float = 0.0
    hope: float = 0.0


@dataclass(frozen=True)
class Fusion:
    """A language model and its weights.

    Attributes:
        model: of words, or of characters with ``SPACE`` for the space.
        alpha: weight of the model's ln p, 0 or more.
        beta: added for every word, against the model's liking for few of them.
        characters: whether the model's words are characters.
        hopes: beginning of a known word → ln p of the likeliest one, whatever was before.

    Raises:
        UsageError: weights that are no numbers, or ``alpha`` below 0.
    """

    model: NGram
    alpha: float
    beta: float
    characters: bool = False
    hopes: Mapping[str, float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not (0 <= self.alpha < math.inf and math.isfinite(self.beta)):
            raise UsageError(
                f"alpha={self.alpha}, beta={self.beta}: expected 0 or more, and a number"
            )


def fuse(model: NGram, alpha: float, beta: float, characters: bool = False) -> Fusion:
    """A language model made ready for ``beam_search``; ``weighted`` changes its weights in no time.

    Raises:
        UsageError: see ``Fusion``.
    """
    hopes: dict[str, float] = {}
    for word in () if characters else model.words():
        if word not in (END, UNKNOWN):
            hope = LN10 * log10_probability(model, (), word)
            for end in range(1, len(word) + 1):
                hopes[word[:end]] = max(hope, hopes.get(word[:end], -math.inf))
    return Fusion(model, alpha, beta, characters, hopes)


def weighted(fusion: Fusion, alpha: float, beta: float) -> Fusion:
    """The same model with other weights."""
    return replace(fusion, alpha=alpha, beta=beta)


def units(transcript: str, characters: bool) -> Sequence[str]:
    """A normalised transcript as the words of a model: words, or characters."""
    return list(transcript.replace(" ", SPACE)) if characters else transcript.split()


def extended(fusion: Fusion, heard: Heard, character: str) -> Heard:
    """What was heard, and one character more."""
    if fusion.characters:
        return _counted(fusion, heard, SPACE if character == " " else character)
    if character == " ":
        return _ended(fusion, heard)
    begun = heard.begun + character
    hope = fusion.hopes.get(begun)
    if heard.lost or hope is not None:
        hoped = 0.0 if hope is None else fusion.alpha * hope + fusion.beta
        return Heard(heard.history, begun, heard.lost, heard.score, hoped)
    unknown = fusion.alpha * _ln(fusion, heard.history, UNKNOWN) + fusion.beta
    return Heard(heard.history, begun, True, heard.score + unknown)


def finished(fusion: Fusion, heard: Heard) -> float:
    """What the whole text is worth, its end counted."""
    whole = heard if fusion.characters else _ended(fusion, heard)
    return whole.score + fusion.alpha * _ln(fusion, whole.history, END)


def _ended(fusion: Fusion, heard: Heard) -> Heard:
    """The begun word is one; none is, where none was begun."""
    if not heard.begun:
        return heard
    if heard.lost:
        return Heard(_remembered(fusion, heard.history, UNKNOWN), score=heard.score)
    return _counted(fusion, heard, heard.begun)


def _counted(fusion: Fusion, heard: Heard, word: str) -> Heard:
    worth = fusion.alpha * _ln(fusion, heard.history, word) + fusion.beta
    return Heard(_remembered(fusion, heard.history, word), score=heard.score + worth)


def _remembered(fusion: Fusion, history: Gram, word: str) -> Gram:
    """The last words that an n-gram has room for."""
    kept = fusion.model.order - 1
    return (*history, word)[-kept:] if kept else ()


def _ln(fusion: Fusion, history: Gram, word: str) -> float:
    return LN10 * log10_probability(fusion.model, history, word)
