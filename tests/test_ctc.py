"""Transcripts as tokens, the CTC loss, greedy decoding, and how well texts were recognised."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.characters import Alphabet, alphabet_of, normalise
from pipeline.errors import ModelError, UsageError
from pipeline.loader import open_dataset
from pipeline.prepare import Request, prepare_dataset
from pipeline.train import transcription
from pipeline.train.ctc import ctc_loss, greedy, needed_frames
from pipeline.train.models.dnn import DnnCtc
from pipeline.train.models.frames import Frames, subsampled
from pipeline.train.recognition import Aligned, align, recognition
from pipeline.train.text import encoded

AB = Alphabet(" ab")


@pytest.mark.parametrize(
    ("transcript", "spoken"),
    [
        ("Printing, in the only sense", "printing in the only sense"),
        ("“Well-to-do,” said Raphaël’s owner; it's", "well to do said raphael's owner it's"),
        ("'Quoted' o'clock (so called)", "quoted o'clock so called"),
        ("Düsseldorf à 1900", "dusseldorf a 1900"),
        (" ' — \t\n", ""),
        ("Ça m'a plu, Noël à l'Œuvre", "ca m'a plu noel a l'œuvre"),
        ("Größe Å, e\u0301tude: ½", "große a etude 1 2"),
        ("Ἀθῆναι ΐ", "αθηναι ι"),
        ("हिन्दी में", "हिन्दी में"),
        ("ภาษาไทย ที่นี่", "ภาษาไทย ที่นี่"),
        ("தமிழ்", "தமிழ்"),
        ("ガギグゲゴ ぱば", "ガギグゲゴ ぱば"),
        ("ｶﾞ、한국어", "ガ 한국어"),
        ("Ёлка й", "ёлка й"),
        ("שָׁלוֹם—مَرحَبا", "שָׁלוֹם مَرحَبا"),
        ("می\u200cخواهم ශ්\u200dරී", "میخواهم ශ්රී"),  # joiners part no words
        ("1\ufe0f\u20e3 ❤\ufe0f葛\U000e0100", "1 葛"),
        ("\u0301a -\u093e '\u0308b", "a b"),  # marks of no letter
    ],
)
def test_a_transcript_is_what_is_spoken(transcript: str, spoken: str) -> None:
    assert normalise(transcript) == spoken


@given(st.text())
def test_normalised_twice_is_normalised_once(transcript: str) -> None:
    once = normalise(transcript)
    assert normalise(once) == once
    assert once == " ".join(once.split())


@given(st.lists(st.text(), min_size=1))
def test_trains_transcripts_come_back_from_their_tokens(transcripts: list[str]) -> None:
    if not any(map(normalise, transcripts)):
        return
    alphabet = alphabet_of(transcripts)
    assert transcription.alphabet(("", *alphabet.characters)) == alphabet
    for transcript in transcripts:
        tokens = alphabet.encode(transcript)
        assert all(0 < token < len(alphabet) for token in tokens)
        assert alphabet.decode(tokens) == normalise(transcript)


def test_what_only_held_out_clips_have_is_counted_and_left_out() -> None:
    assert AB.encode("A cab, b") == [2, 1, 2, 3, 1, 3]
    assert AB.unknown(["A cab", "cc"]) == {"c": 3}


@pytest.mark.parametrize("tokens", [(), ("a", "b"), ("", "ab"), ("", "a", "")])
def test_tokens_that_are_no_alphabet_are_named(tokens: tuple[str, ...]) -> None:
    with pytest.raises(ModelError, match="expected '' and then characters, got"):
        transcription.alphabet(tokens)


def test_no_transcripts_make_no_alphabet() -> None:
    with pytest.raises(UsageError, match="expected different characters"):
        alphabet_of(["", "..."])


def likelihood(log_probs: torch.Tensor, wanted: list[int]) -> float:
    """ln of the sum over all paths that read as ``wanted``, (T, tokens) log probabilities."""
    total = -math.inf
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        read = [token for token, _ in itertools.groupby(path) if token]
        if read == wanted:
            score = sum(float(log_probs[t, token]) for t, token in enumerate(path))
            total = float(torch.logaddexp(torch.tensor(total), torch.tensor(score)))
    return total


def test_the_loss_is_the_mean_of_all_paths_per_token() -> None:
    logits = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    frames = Frames(logits, torch.tensor([5, 3]))
    tokens, counts = encoded(["aab", "b"], AB)
    logs = logits.log_softmax(2)
    wanted = -likelihood(logs[0], [2, 2, 3]) / 3 - likelihood(logs[1, :3], [3])
    assert float(ctc_loss(frames, tokens, counts)) == pytest.approx(wanted / 2, rel=1e-5)


def test_an_empty_transcript_is_all_blank() -> None:
    logits = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(1))
    loss = ctc_loss(Frames(logits, torch.tensor([3])), *encoded([""], AB))
    assert float(loss) == pytest.approx(-float(logits.log_softmax(2)[0, :, 0].sum()), rel=1e-5)


def test_equal_neighbours_need_a_frame_more() -> None:
    tokens, counts = encoded(["aab", "b", "bb", ""], AB)
    assert needed_frames(tokens, counts).tolist() == [4, 1, 3, 0]


@pytest.mark.parametrize(
    ("texts", "names", "message"),
    [
        (
            ["aa", "ab"],
            (),
            r"example 0 of the batch \(key=True names it\): its transcript needs 3 frames.* 2;",
        ),
        (["ab", "aba"], ("x", "y"), r"^y: its transcript needs 3 frames, the model leaves 2;"),
        (["aa", "bb"], ("x", "y"), r"^x: .* leaves 2, as do 1 more of its batch; take a smaller"),
    ],
)
def test_a_transcript_longer_than_its_frames_is_refused(
    texts: list[str], names: tuple[str, ...], message: str
) -> None:
    frames = Frames(torch.zeros(2, 2, 4), torch.tensor([2, 2]))
    with pytest.raises(ModelError, match=message):
        ctc_loss(frames, *encoded(texts, AB), names)


def test_greedy_reads_the_best_path() -> None:
    paths = torch.tensor([[0, 2, 2, 0, 2, 3, 3], [3, 3, 0, 0, 2, 2, 2]])
    logits = torch.nn.functional.one_hot(paths, 4).float()
    assert greedy(Frames(logits, torch.tensor([7, 4]))) == [[2, 2, 3], [3]]


@given(st.integers(1, 50), st.integers(1, 5))
def test_every_stride_th_frame_is_left(frames: int, stride: int) -> None:
    assert int(subsampled(torch.tensor([frames]), stride)) == len(range(0, frames, stride))


@pytest.mark.parametrize(
    ("said", "heard", "counts"),
    [
        ("abc", "abc", Aligned(hits=3)),
        ("abc", "", Aligned(deletions=3)),
        ("", "ab", Aligned(insertions=2)),
        ("abcd", "axcde", Aligned(3, 1, 0, 1)),
        ("ab", "bc", Aligned(1, 0, 1, 1)),  # two edits either way; this one has a hit
        ("", "", Aligned()),
    ],
)
def test_what_an_alignment_counts(said: str, heard: str, counts: Aligned) -> None:
    assert align(said, heard) == counts


def best_alignment(said: str, heard: str) -> tuple[int, int]:
    """(edits, -hits), by trying everything."""
    if not said or not heard:
        return len(said) + len(heard), 0
    edits, hits = best_alignment(said[1:], heard[1:])
    same = said[0] == heard[0]
    both = (edits, hits - 1) if same else (edits + 1, hits)
    others = (best_alignment(said[1:], heard), best_alignment(said, heard[1:]))
    return min(both, *((edits + 1, hits) for edits, hits in others))


@given(st.text("abc", max_size=5), st.text("abc", max_size=5))
def test_an_alignment_is_the_best_of_all(said: str, heard: str) -> None:
    found = align(said, heard)
    edits = found.substitutions + found.deletions + found.insertions
    assert (edits, -found.hits) == best_alignment(said, heard)
    assert found.hits + found.substitutions + found.deletions == len(said)
    assert found.hits + found.substitutions + found.insertions == len(heard)


def test_how_well_texts_were_recognised() -> None:
    found = recognition(["the cat sat", "on it"], ["the bat sat", "on"])
    assert found.wer == pytest.approx(2 / 5)
    assert found.cer == pytest.approx(4 / 16)
    assert found.recall == pytest.approx(12 / 16)
    assert found.precision == pytest.approx(12 / 13)
    assert found.f1 == pytest.approx(2 * 12 / (16 + 13))
    assert found.accuracy == pytest.approx(12 / 16)


@pytest.mark.parametrize(("said", "heard"), [([], []), (["a"], []), (["", " "], ["a", "b"])])
def test_nothing_said_can_not_be_recognised(said: list[str], heard: list[str]) -> None:
    with pytest.raises(UsageError, match="expected as many of both"):
        recognition(said, heard)


@torch.inference_mode()
def test_a_trainer_has_all_that_it_asks_for(ask_phrases: Callable[..., Request]) -> None:
    sealed = open_dataset(prepare_dataset(ask_phrases()).folder).sealed
    split = open_dataset(sealed.folder)["train"]
    batch = split.batch(range(len(split)))
    tokens = transcription.names(sealed, "normalized_text")
    spoken = transcription.truths(batch["normalized_text"])
    assert tokens == ("", *sorted(set("".join(spoken))))

    model = DnnCtc(40, len(tokens), hidden=32).eval()
    output = model(batch["features"], batch["lengths"])
    loss = transcription.loss(output, transcription.targets(spoken, tokens), 0.0, [])
    assert math.isfinite(float(loss))
    answered = transcription.answers(output, tokens)
    assert len(answered) == len(spoken)
    assert transcription.scores(spoken, spoken, tokens) == {
        "wer": 0,
        "cer": 0,
        "accuracy": 1,
        "precision": 1,
        "recall": 1,
        "f1": 1,
    }
    assert transcription.scores(answered, spoken, tokens)["cer"] > 0.5
    likeliest = transcription.best(output, tokens, 2)
    assert [len(texts) for texts in likeliest] == [2] * len(spoken)
    assert all(one[0][1] >= one[1][1] for one in likeliest)


def test_labels_are_not_smoothed() -> None:
    with pytest.raises(UsageError, match="expected 0, CTC has no labels"):
        transcription.loss(Frames(torch.zeros(1, 1, 2), torch.ones(1)), encoded(["a"], AB), 0.1, [])
