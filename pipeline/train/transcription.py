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
from pipeline.train.beam import beam_search, log_probabilities
from pipeline.train.ctc import ctc_loss, greedy
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


def loss(output: Frames, wanted: Targets, smoothing: float) -> torch.Tensor:
    """The mean CTC loss per token, a scalar.

    Raises:
        UsageError: a transcript that is too long for its frames, or any smoothing.
    """
    if smoothing:
        raise UsageError(f"smoothing={smoothing}: expected 0, CTC has no labels to smooth")
    return ctc_loss(output, *wanted)


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


def best(output: Frames, tokens: Sequence[str], most: int) -> list[list[tuple[str, float]]]:
    """The likeliest transcripts of each example and their probabilities, by beam search."""
    known = alphabet(tokens)
    found = (beam_search(one, known) for one in log_probabilities(output))
    return [[(h.text, math.exp(h.acoustic)) for h in texts[:most]] for texts in found]
