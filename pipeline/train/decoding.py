"""What a language model adds to a trained transcriber: one sound, three ways to read it.

Weights of the language model are chosen on validation; the split that is told is read once, with
the chosen ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from pipeline.errors import UsageError
from pipeline.loader import Dataset, Split, make_loader
from pipeline.train import transcription
from pipeline.train.beam import Floats, best_texts, log_probabilities, tuned
from pipeline.train.checkpoint import Saved
from pipeline.train.device import device_of
from pipeline.train.evaluation import batch_size_of
from pipeline.train.fitting import check_lengths
from pipeline.train.fusion import Fusion, fuse, units
from pipeline.train.lm_text import permitted, read_transcripts
from pipeline.train.ngram import NGram, estimate, perplexity
from pipeline.train.predict import reading, task_of
from pipeline.train.recogniser import Recogniser
from pipeline.train.recognition import Recognition, recognition

ORDER = 3
HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Decoded:
    """A split, read from the same acoustic scores.

    Attributes:
        greedy: the best token of every frame.
        beam: the likeliest text by its sound.
        fused: the best text by sound and language, with ``alpha`` and ``beta``.
        perplexity: of the language model on what was said.
    """

    greedy: Recognition
    beam: Recognition
    fused: Recognition
    alpha: float
    beta: float
    perplexity: float


def sentences(data: Dataset, target: str, transcripts: Path | None = None) -> list[str]:
    """The text that a language model of words may see: none of validation and test is in it.

    Args:
        data: opened with ``key=True``, with the splits train, validation and test.
        target: the label that holds transcripts.
        transcripts: more text: lines ``name|…|transcript`` that name every held-out clip, for these
            are left out; None for train's own transcripts.

    Raises:
        UsageError: a split is missing, or held-out clips can't be told from the others.
        ModelError: the file is none of transcripts.
    """
    _check(data)
    own = {name: _transcripts(data[name], target) for name in ("train", *HELD_OUT)}
    held_out = own["validation"] | own["test"]
    every: Mapping[str, str] = own["train"] | held_out
    return permitted(read_transcripts(transcripts) if transcripts else every, held_out)


def language_model(text: list[str]) -> NGram:
    """The n-gram model of words of normalised transcripts."""
    return estimate((units(sentence, characters=False) for sentence in text), ORDER)


def decode(
    saved: Saved, data: Dataset, split: str, language: NGram, device: str = "auto"
) -> Decoded:
    """Read a split greedily, by beam search, and with a language model of words.

    The model is on ``device``, the searches are on the CPU.

    Raises:
        UsageError: there is no such device here, the model does not transcribe, a split is
            missing, or it is validation's own scores that are asked for: the weights are chosen
            there.
        ModelError: the model is damaged, or for other features.
        ClipError: a clip is too short for the model's features; named.
    """
    task_of(saved, fuse(language, 1.0, 0.0))  # refuses what does not transcribe
    _check(data)
    if split == "validation":
        raise UsageError(
            "split validation: the language model's weights are chosen on it; say test"
        )
    where = device_of(device)
    recogniser = reading(saved, data).to(where)
    for name in ("validation", split):
        check_lengths(recogniser, data[name])
    known, asked = (_heard(saved, recogniser, data[n], where) for n in ("validation", split))
    alphabet = transcription.alphabet(saved.description.names)
    weighed: Fusion = tuned(known.sounds, known.said, alphabet, fuse(language, 1.0, 0.0))
    return Decoded(
        recognition(asked.said, asked.greedy),
        recognition(asked.said, best_texts(asked.sounds, alphabet, None)),
        recognition(asked.said, best_texts(asked.sounds, alphabet, weighed)),
        weighed.alpha,
        weighed.beta,
        perplexity(language, (sentence.split() for sentence in asked.said)),
    )


def _check(data: Dataset) -> None:
    missing = [split for split in ("train", *HELD_OUT) if not data.get(split)]
    if missing:
        raise UsageError(f"{data.sealed.folder}: expected a {missing[0]} split, got none")


def _transcripts(split: Split, target: str) -> dict[str, str]:
    return dict(zip(split.column("key").tolist(), split.column(target).tolist(), strict=True))


class _Heard(NamedTuple):
    """A split: of every example the log probabilities (T', tokens), greedily read, and said."""

    sounds: list[Floats]
    greedy: list[str]
    said: list[str]


@torch.inference_mode()
def _heard(saved: Saved, recogniser: Recogniser, split: Split, device: torch.device) -> _Heard:
    own, heard = saved.description, _Heard([], [], [])
    for batch in make_loader(split, batch_size_of(split), rank=0, world_size=1):
        frames = recogniser(batch["features"].to(device), batch["lengths"].to(device))
        heard.sounds.extend(log_probabilities(frames))
        heard.greedy.extend(transcription.answers(frames, own.names))
        heard.said.extend(transcription.truths(batch[own.target]))
    return heard
