"""What a language model adds to a trained transcriber: one sound, three ways to read it.

Weights of the language model are chosen on validation; test is read once, with the chosen ones.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from pipeline.errors import UsageError
from pipeline.loader import Dataset, Split, make_loader, open_dataset
from pipeline.train import transcription
from pipeline.train.arpa import read_arpa, write_arpa
from pipeline.train.beam import Floats, best_texts, log_probabilities, tuned
from pipeline.train.checkpoint import Saved, load
from pipeline.train.fitting import check_fits, rebuilt
from pipeline.train.fusion import fuse, units
from pipeline.train.lm_text import permitted, read_transcripts
from pipeline.train.models import entry
from pipeline.train.ngram import estimate, perplexity
from pipeline.train.recognition import Recognition, recognition

BATCH = 16
HELD_OUT = ("validation", "test")


@dataclass(frozen=True)
class Decoded:
    """Test, read from the same acoustic scores.

    Attributes:
        greedy: the best token of every frame.
        beam: the likeliest text by its sound.
        fused: the best text by sound and language, with ``alpha`` and ``beta``.
        perplexity: of the language model on test's transcripts.
        sentences: that the language model was estimated from.
    """

    greedy: Recognition
    beam: Recognition
    fused: Recognition
    alpha: float
    beta: float
    perplexity: float
    sentences: int


def decode(
    model: Path, where: str | Path, arpa: Path, transcripts: Path | None = None, order: int = 3
) -> Decoded:
    """Read test with a language model of words, which is written to ``arpa``.

    Args:
        model: what ``train`` saved.
        where: a dataset with the splits validation and test.
        arpa: the language model's file, written and read back.
        transcripts: more text: lines ``name|…|transcript`` that name every held-out clip, for these
            are left out; None for train's own transcripts.
        order: of the language model.

    Raises:
        UsageError: the model does not transcribe, a split is missing, or held-out clips can't be
            told from the others.
        ModelError: the model, or a file, is damaged, or the model is for other features.
    """
    saved = load(model)
    if entry(saved.description.model).task != "transcribe":
        raise UsageError(
            f"{model}: expected a model that transcribes, got {saved.description.model}"
        )
    data = open_dataset(where, key=True)
    check_fits(saved.description, data)
    text = _language_text(data, saved.description.target, transcripts)
    write_arpa(arpa, estimate((units(t, characters=False) for t in text), order))
    language = read_arpa(arpa)

    known, test = (_heard(saved, data[split]) for split in HELD_OUT)
    alphabet = transcription.alphabet(saved.description.names)
    weighed = tuned(known.sounds, known.said, alphabet, fuse(language, 1.0, 0.0))
    return Decoded(
        recognition(test.said, test.greedy),
        recognition(test.said, best_texts(test.sounds, alphabet, None)),
        recognition(test.said, best_texts(test.sounds, alphabet, weighed)),
        weighed.alpha,
        weighed.beta,
        perplexity(language, (sentence.split() for sentence in test.said)),
        len(text),
    )


def _language_text(data: Dataset, target: str, transcripts: Path | None) -> list[str]:
    """Normalised transcripts without those of validation and test."""
    missing = [split for split in ("train", *HELD_OUT) if not data.get(split)]
    if missing:
        raise UsageError(f"{data.sealed.folder}: expected a {missing[0]} split, got none")
    own = {name: _transcripts(data[name], target) for name in ("train", *HELD_OUT)}
    held_out = own["validation"] | own["test"]
    every = read_transcripts(transcripts) if transcripts else own["train"] | held_out
    return permitted(every, held_out)


def _transcripts(split: Split, target: str) -> dict[str, str]:
    return dict(zip(split.column("key").tolist(), split.column(target).tolist(), strict=True))


class _Heard(NamedTuple):
    """A split: of every example the log probabilities (T', tokens), greedily read, and said."""

    sounds: list[Floats]
    greedy: list[str]
    said: list[str]


@torch.inference_mode()
def _heard(saved: Saved, split: Split) -> _Heard:
    recogniser, own = rebuilt(saved), saved.description
    heard = _Heard([], [], [])
    for batch in make_loader(split, BATCH, rank=0, world_size=1):
        frames = recogniser(batch["features"], batch["lengths"])
        heard.sounds.extend(log_probabilities(frames))
        heard.greedy.extend(transcription.answers(frames, own.names))
        heard.said.extend(transcription.truths(batch[own.target]))
    return heard
