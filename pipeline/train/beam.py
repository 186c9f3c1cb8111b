"""CTC prefix beam search with an n-gram language model (Graves, 2006; Hannun et al., 2014).

A text's score is ln p(text | features), summed over all its paths through the frames, and what the
language model says (``Fusion``). The search keeps the best beginnings after each frame; with a
``width`` that no beginning is lost to, and ``floor=0``, it finds the best text for certain.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.characters import BLANK, Alphabet
from pipeline.errors import UsageError
from pipeline.train.fusion import Fusion, Heard, extended, finished, weighted
from pipeline.train.models.frames import Frames
from pipeline.train.recognition import recognition

Floats = npt.NDArray[np.floating]


class Hypothesis(NamedTuple):
    """A text and why: ln p of its sound, and what the language model adds."""

    text: str
    acoustic: float
    language: float


@dataclass(eq=False, slots=True)
class _Prefix:
    """A beginning of a text, one character longer than its parent's; one object each."""

    parent: "_Prefix | None"
    token: int
    heard: Heard
    longer: "dict[int, _Prefix]"


def log_probabilities(frames: Frames) -> list[Floats]:
    """What a search reads: of each example (T, tokens) natural logarithms, float32."""
    logs = frames.logits.detach().float().log_softmax(2).cpu().numpy()
    return [row[:length] for row, length in zip(logs, frames.lengths.tolist(), strict=True)]


def beam_search(
    log_probs: Floats,
    alphabet: Alphabet,
    fusion: Fusion | None = None,
    width: int = 32,
    floor: float = 1e-3,
) -> list[Hypothesis]:
    """The best texts for an example, the best one first, at most ``width`` of them.

    Args:
        log_probs: (T, tokens), ln p of each token at each frame, the blank first.
        alphabet: of the model that made them.
        fusion: the language model; None for the sound alone.
        width: beginnings that are kept after each frame.
        floor: tokens less probable than this at a frame are not tried there.

    Raises:
        UsageError: no (T, tokens) of this alphabet, or a width below 1.
    """
    if log_probs.ndim != 2 or log_probs.shape[1] != len(alphabet) or width < 1:
        raise UsageError(
            f"a beam search of width {width} in {log_probs.shape}: expected at least 1 in "
            f"(frames, {len(alphabet)})"
        )
    root = _Prefix(None, BLANK, Heard(), {})
    # Probabilities of all paths to a beginning that end in the blank, and in its last character;
    # scaled so that the largest is 1, for which ``scale`` makes up.
    beam, scale = [(root, 1.0, 0.0)], 0.0
    for row in np.exp(log_probs.astype(np.float64)):
        tried = np.flatnonzero(row >= min(floor, row.max()))
        candidates = list(zip(tried.tolist(), row[tried].tolist(), strict=True))
        paths = _one_frame_on(beam, candidates, alphabet, fusion)
        best = nlargest(width, paths.items(), key=_promise)
        most = max(sum(p) for _, p in best)
        beam = [(prefix, p[0] / most, p[1] / most) for prefix, p in best]
        scale += math.log(most)
    found = [
        Hypothesis(
            _text(prefix, alphabet),
            scale + math.log(blank + label),
            finished(fusion, prefix.heard) if fusion else 0.0,
        )
        for prefix, blank, label in beam
        if blank + label > 0
    ]
    return sorted(found, key=lambda h: -(h.acoustic + h.language))


def _one_frame_on(
    beam: list[tuple[_Prefix, float, float]],
    candidates: list[tuple[int, float]],
    alphabet: Alphabet,
    fusion: Fusion | None,
) -> dict[_Prefix, list[float]]:
    """Beginning → the probabilities of its paths, once every candidate has followed every one."""
    paths: dict[_Prefix, list[float]] = {}
    for prefix, blank, label in beam:
        whole = blank + label
        for token, p in candidates:
            if token == BLANK:
                paths.setdefault(prefix, [0.0, 0.0])[0] += whole * p
                continue
            followed = whole
            if token == prefix.token:  # without a blank between them it is the same character
                paths.setdefault(prefix, [0.0, 0.0])[1] += label * p
                followed = blank
            if followed:
                longer = prefix.longer.get(token) or _longer(prefix, token, alphabet, fusion)
                paths.setdefault(longer, [0.0, 0.0])[1] += followed * p
    return paths


def _longer(prefix: _Prefix, token: int, alphabet: Alphabet, fusion: Fusion | None) -> _Prefix:
    heard = prefix.heard
    if fusion:
        heard = extended(fusion, heard, alphabet.characters[token - 1])
    made = prefix.longer[token] = _Prefix(prefix, token, heard, {})
    return made


def _promise(entry: tuple[_Prefix, list[float]]) -> float:
    """What a beginning may come to."""
    (prefix, (blank, label)) = entry
    heard = prefix.heard
    return (math.log(blank + label) if blank + label else -math.inf) + heard.score + heard.hope


def _text(prefix: _Prefix, alphabet: Alphabet) -> str:
    tokens, at = [], prefix
    while at.parent:
        tokens.append(at.token)
        at = at.parent
    return " ".join(alphabet.decode(reversed(tokens)).split())


def best_texts(
    examples: Sequence[Floats], alphabet: Alphabet, fusion: Fusion | None, width: int = 32
) -> list[str]:
    """The best text of each example."""
    return [beam_search(one, alphabet, fusion, width)[0].text for one in examples]


def tuned(
    examples: Sequence[Floats],
    references: Sequence[str],
    alphabet: Alphabet,
    fusion: Fusion,
    alphas: Sequence[float] = (0.5, 1.0, 1.5, 2.0),
    betas: Sequence[float] = (0.0, 2.0, 4.0, 6.0, 8.0),
    width: int = 16,
) -> Fusion:
    """The language model with those weights that give the lowest WER on examples of validation.

    A narrow search is enough to tell good weights from bad ones.
    Of equally good ones the first, in the order of ``alphas``.
    """

    def wer(candidate: Fusion) -> float:
        return recognition(references, best_texts(examples, alphabet, candidate, width)).wer

    return min((weighted(fusion, a, b) for a in alphas for b in betas), key=wer)
