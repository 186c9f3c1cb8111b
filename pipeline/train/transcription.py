"""Transcription as a task: what the trainer asks between a batch, a CTC model and its scores.

``names`` are what the model's outputs stand for: ``""``, the blank, and then the characters of
train's transcripts. Each function has the place of the same name in the trainer's ``Task``.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import torch

from pipeline.characters import Alphabet, alphabet_of, normalise
from pipeline.dataset import Sealed
from pipeline.errors import ModelError, UsageError
from pipeline.loader import open_dataset
from pipeline.train.beam import (
    Beam,
    Hypothesis,
    advanced,
    beam_search,
    begun,
    hypotheses,
    log_probabilities,
)
from pipeline.train.ctc import ctc_loss, greedy
from pipeline.train.fusion import Fusion
from pipeline.train.models.frames import Frames
from pipeline.train.recognition import recognition
from pipeline.train.text import encoded

Targets = tuple[torch.Tensor, torch.Tensor]


def names(sealed: Sealed, target: str) -> tuple[str, ...]:
    """The tokens of train's transcripts, the blank first.

    Raises:
        UsageError: train's transcripts have no characters.
    """
    train = open_dataset(sealed.folder, labels=[target])["train"]
    return ("", *alphabet_of(train.column(target)).characters)


def alphabet(tokens: Sequence[str]) -> Alphabet:
    """The alphabet of ``names``.

    Raises:
        ModelError: the first one is no blank, or another is no character.
    """
    if not tokens or tokens[0] != "" or any(len(token) != 1 for token in tokens[1:]):
        raise ModelError(
            f"the model's tokens: expected '' and then characters, got {list(tokens)[:8]}"
        )
    return Alphabet("".join(tokens[1:]))


def targets(column: Sequence[str], tokens: Sequence[str]) -> Targets:
    """Transcripts as (sum,) int64 tokens on end, and (B,) counts."""
    return encoded(column, alphabet(tokens))


def loss(output: Frames, wanted: Targets, smoothing: float, keys: Sequence[str]) -> torch.Tensor:
    """The mean CTC loss per token, a scalar.

    Raises:
        ModelError: a transcript that is too long for its frames; named by ``keys``.
        UsageError: any smoothing.
    """
    if smoothing:
        raise UsageError(f"smoothing={smoothing}: expected 0, CTC has no labels to smooth")
    return ctc_loss(output, *wanted, keys)


def answers(output: Frames, tokens: Sequence[str]) -> list[str]:
    """What greedy decoding reads."""
    known = alphabet(tokens)
    return [" ".join(known.decode(found).split()) for found in greedy(output)]


def truths(column: Sequence[str]) -> list[str]:
    """What was to be read."""
    return [normalise(transcript) for transcript in column]


def scores(
    answered: Sequence[str], wanted: Sequence[str], tokens: Sequence[str]
) -> Mapping[str, float]:
    """``wer``, ``cer``, and of characters ``accuracy``, ``precision``, ``recall``, ``f1``."""
    return asdict(recognition(wanted, answered))


def best(
    output: Frames, tokens: Sequence[str], most: int, fusion: Fusion | None = None
) -> list[list[tuple[str, float]]]:
    """The best transcripts of each example by beam search, and their probabilities by the sound."""
    known = alphabet(tokens)
    found = (beam_search(one, known, fusion) for one in log_probabilities(output))
    return [_told(texts, most) for texts in found]


def follow(
    before: Beam | None,
    logits: torch.Tensor,
    tokens: Sequence[str],
    most: int,
    fusion: Fusion | None = None,
) -> tuple[Beam, list[tuple[str, float]]]:
    """``best`` of one stream: the search goes on with a chunk's logits, (1, t, tokens)."""
    known = alphabet(tokens)
    whole = Frames(logits, torch.tensor([logits.shape[1]]))
    (logs,) = log_probabilities(whole)
    beam = advanced(before or begun(), logs, known, fusion)
    return beam, _told(hypotheses(beam, known, fusion), most)


def _told(found: Sequence[Hypothesis], most: int) -> list[tuple[str, float]]:
    return [(h.text, math.exp(h.acoustic)) for h in found[:most]]
