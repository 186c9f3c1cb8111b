"""Beam search finds what trying everything finds, with and without a language model."""

import itertools
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.characters import Alphabet
from pipeline.errors import UsageError
from pipeline.train.beam import beam_search, best_texts, log_probabilities, tuned
from pipeline.train.ctc import greedy
from pipeline.train.fusion import Fusion, Heard, extended, finished, fuse, units
from pipeline.train.models.frames import Frames
from pipeline.train.ngram import BEGIN, END, NGram, estimate, log10_probability

AB = Alphabet(" ab")
SENTENCES = ["a ab", "ab a", "b", "a ab b", "ab"]
WORDS = estimate([units(s, characters=False) for s in SENTENCES], 3)
CHARACTERS = estimate([units(s, characters=True) for s in SENTENCES], 3)
ALL = 10**6  # a width that loses nothing

seeds = st.integers(0, 10**6)


def noise(seed: int, frames: int, sharpness: float = 2.0) -> npt.NDArray[np.float64]:
    """(frames, 4) log probabilities."""
    logits = np.random.default_rng(seed).normal(size=(frames, len(AB))) * sharpness
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def all_readings(log_probs: npt.NDArray[np.float64]) -> dict[str, float]:
    """What any path reads as → ln of the sum over such paths; spaces as they come."""
    readings: dict[str, float] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        text = AB.decode(token for token, _ in itertools.groupby(path) if token)
        score = sum(log_probs[t, token] for t, token in enumerate(path))
        readings[text] = np.logaddexp(readings.get(text, -math.inf), score)
    return readings


def language(fusion: Fusion, text: str) -> float:
    """What a language model says of a whole text, from the definition."""
    words = [*units(text, fusion.characters)]
    model: NGram = fusion.model
    padded = (BEGIN, *words, END)
    logs = [log10_probability(model, padded[:i], padded[i]) for i in range(1, len(padded))]
    return fusion.alpha * math.log(10) * sum(logs) + fusion.beta * len(words)


@given(seeds, st.integers(1, 5))
def test_without_a_language_model_it_finds_the_likeliest_text(seed: int, frames: int) -> None:
    log_probs = noise(seed, frames)
    readings = all_readings(log_probs)
    found = beam_search(log_probs, AB, None, ALL, floor=0.0)
    assert len(found) == len(readings)
    assert sum(math.exp(h.acoustic) for h in found) == pytest.approx(1)
    best = max(readings, key=readings.__getitem__)
    assert found[0].text == " ".join(best.split())
    assert found[0].acoustic == pytest.approx(readings[best])


@given(seeds, st.integers(1, 5), st.booleans(), st.floats(0, 2), st.floats(-2, 4))
def test_with_a_language_model_it_finds_the_best_of_all(
    seed: int, frames: int, characters: bool, alpha: float, beta: float
) -> None:
    log_probs = noise(seed, frames)
    fusion = fuse(CHARACTERS if characters else WORDS, alpha, beta, characters)
    scores = {t: p + language(fusion, t) for t, p in all_readings(log_probs).items()}
    found = beam_search(log_probs, AB, fusion, ALL, floor=0.0)
    assert found[0].acoustic + found[0].language == pytest.approx(max(scores.values()))
    assert [h.acoustic + h.language for h in found] == pytest.approx(
        sorted(scores.values(), reverse=True)
    )


@given(st.text(" abz", max_size=8), st.floats(0, 2), st.floats(-2, 4), st.booleans())
def test_a_text_is_worth_the_same_character_by_character(
    text: str, alpha: float, beta: float, characters: bool
) -> None:
    fusion = fuse(CHARACTERS if characters else WORDS, alpha, beta, characters)
    heard = Heard()
    for character in text:
        heard = extended(fusion, heard, character)
    assert finished(fusion, heard) == pytest.approx(language(fusion, text))


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12))
def test_where_one_token_is_nearly_sure_it_reads_what_greedy_reads(path: list[int]) -> None:
    logits = 20.0 * torch.nn.functional.one_hot(torch.tensor([path]), len(AB)).float()
    frames = Frames(logits, torch.tensor([len(path)]))
    (tokens,) = greedy(frames)
    assert best_texts(log_probabilities(frames), AB, None) == [" ".join(AB.decode(tokens).split())]


@given(seeds)
def test_a_narrow_search_is_no_better_than_a_wide_one(seed: int) -> None:
    log_probs, fusion = noise(seed, 6), fuse(WORDS, 1.0, 1.0)
    scores = [
        h[0].acoustic + h[0].language
        for h in (beam_search(log_probs, AB, fusion, width, 0.0) for width in (4, ALL))
    ]
    assert scores[0] <= scores[1] + 1e-9


def test_a_language_model_chooses_between_what_sounds_alike() -> None:
    """The sound says "a", then "a" or "b" alike; the language knows "ab" alone."""
    sure, rows = 0.97, []
    for a, b in ((sure, 0.01), (0.01, 0.01), (0.485, 0.485)):
        rows.append([1 - a - b - 0.01, 0.01, a, b])
    log_probs = np.log(rows)
    assert {h.text for h in beam_search(log_probs, AB)[:2]} == {"aa", "ab"}
    assert beam_search(log_probs, AB, fuse(WORDS, 1.0, 0.0))[0].text == "ab"


def test_thousands_of_frames_do_not_vanish() -> None:
    log_probs = noise(1, 3000)
    found = beam_search(log_probs, AB, width=4)
    assert all(math.isfinite(h.acoustic) for h in found)
    assert found[0].acoustic < -500


def test_each_example_is_read_to_its_own_end() -> None:
    frames = Frames(torch.randn(2, 5, 4), torch.tensor([5, 2]))
    logs = log_probabilities(frames)
    assert [len(one) for one in logs] == [5, 2]
    assert np.exp(logs[1]).sum(1) == pytest.approx([1, 1])


def test_weights_are_tuned_to_the_fewest_wrong_words() -> None:
    """The sound alone hears "aa"; only a model that has a say hears "ab"."""
    rows = [[0.01, 0.01, 0.97, 0.01], [0.97, 0.01, 0.01, 0.01], [0.01, 0.01, 0.5, 0.48]]
    base = fuse(WORDS, 0.0, 0.0)
    found = tuned([np.log(rows)], ["ab"], AB, base, alphas=(0.0, 0.5, 1.0), betas=(0.0, 1.0))
    assert (found.alpha, found.beta) == (0.5, 0.0)  # of the good ones the first


@pytest.mark.parametrize(
    ("shape", "width"), [((3, 5), 8), ((3,), 8), ((3, 4), 0)], ids=["tokens", "rank", "width"]
)
def test_what_can_not_be_searched_is_refused(shape: tuple[int, ...], width: int) -> None:
    with pytest.raises(UsageError, match=r"expected at least 1 in \(frames, 4\)"):
        beam_search(np.zeros(shape), AB, None, width)


@pytest.mark.parametrize(("alpha", "beta"), [(-1, 0), (math.nan, 0), (math.inf, 0), (1, math.nan)])
def test_weights_that_make_no_sense_are_refused(alpha: float, beta: float) -> None:
    with pytest.raises(UsageError, match="expected 0 or more"):
        fuse(WORDS, alpha, beta)
