"""N-gram models: sums of 1, the published formulas, ARPA files, held-out clips."""

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ModelError, UsageError
from pipeline.train.arpa import read_arpa, write_arpa
from pipeline.train.lm_text import permitted, read_transcripts
from pipeline.train.ngram import (
    BEGIN,
    END,
    FALLBACK,
    UNKNOWN,
    NGram,
    estimate,
    log10_probability,
    perplexity,
)
from tests.conftest import real_data

SENTENCES = [text.split() for text in ("the cat sat", "the cat ran", "a cat", "the dog sat", "a")]
texts = st.lists(st.lists(st.sampled_from("abcd"), min_size=1, max_size=6), min_size=1, max_size=12)


def sum_after(model: NGram, history: Sequence[str]) -> float:
    return math.fsum(10 ** log10_probability(model, tuple(history), w) for w in model.words())


@given(texts, st.integers(1, 4), st.lists(st.sampled_from(["a", "b", "zebra", BEGIN]), max_size=4))
def test_probabilities_sum_to_one_after_any_history(
    sentences: list[list[str]], order: int, history: list[str]
) -> None:
    model = estimate(sentences, order)
    assert sum_after(model, history) == pytest.approx(1, abs=1e-9)
    for table in model.tables:
        for gram in table:
            assert sum_after(model, gram) == pytest.approx(1, abs=1e-9)


def kneser_ney(sentences: list[list[str]], history: tuple[str, ...], word: str, top: bool) -> float:
    """p(word | history) as Chen & Goodman define it, with FALLBACK's discounts."""
    padded = [(BEGIN, *sentence, END) for sentence in sentences]
    words = {w for sentence in padded for w in sentence[1:]} | {UNKNOWN}

    def count(gram: tuple[str, ...]) -> int:
        places = [(s, i) for s in padded for i in range(len(s)) if s[i : i + len(gram)] == gram]
        return len(places if top or gram[0] == BEGIN else {s[i - 1] for s, i in places})

    counts = {w: count((*history, w)) for w in words}
    lower = kneser_ney(sentences, history[1:], word, top=False) if history else 1 / len(words)
    if not any(counts.values()):
        return lower
    discounts = {w: FALLBACK[min(n, 3) - 1] if n else 0 for w, n in counts.items()}
    left = sum(discounts.values())
    return (counts[word] - discounts[word] + left * lower) / sum(counts.values())


@pytest.mark.parametrize("order", [1, 2, 3])
def test_it_is_what_the_paper_says(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.train.ngram._discounts", lambda table: FALLBACK)
    model = estimate(SENTENCES, order)
    for history in [(), ("cat",), ("the", "cat"), (BEGIN, "the"), ("dog", "cat"), (BEGIN,)]:
        for word in model.words():
            used = history[max(0, len(history) - order + 1) :]
            wanted = kneser_ney(SENTENCES, used, word, top=len(used) == order - 1)
            assert 10 ** log10_probability(model, history, word) == pytest.approx(wanted)


def test_discounts_are_estimated_from_counts_of_counts() -> None:
    """Of words seen 1, 2, 3, 4 times there are 8, 4, 2, 1; </s> was seen once, too."""
    counts = [n for n, words in ((1, 8), (2, 4), (3, 2), (4, 1)) for _ in range(words)]
    sentence = [f"w{i}" for i, n in enumerate(counts) for _ in range(n)]
    model = estimate([sentence], 1)
    y = 9 / (9 + 2 * 4)
    once, twice, more = 1 - 2 * y * 4 / 9, 2 - 3 * y * 2 / 4, 3 - 4 * y * 1 / 2
    total, vocabulary = len(sentence) + 1, len(counts) + 2
    for_all = (9 * once + 4 * twice + 3 * more) / total / vocabulary
    for word, own in ((UNKNOWN, 0), ("w0", 1 - once), ("w8", 2 - twice), ("w14", 4 - more)):
        found = 10 ** log10_probability(model, (), word)
        assert found == pytest.approx(own / total + for_all), word


def test_what_was_said_is_likelier_than_what_was_not() -> None:
    model = estimate(SENTENCES, 3)
    assert perplexity(model, SENTENCES) < perplexity(model, [["sat", "a", "the"]])
    assert perplexity(model, SENTENCES) < perplexity(estimate(SENTENCES, 1), SENTENCES)


def test_perplexity_is_that_of_guessing_where_all_is_alike() -> None:
    model = NGram(({(w,): (-math.log10(4), 0.0) for w in ("a", "b", UNKNOWN, END)},))
    assert perplexity(model, [["a", "zebra"], ["b"]]) == pytest.approx(4)


def test_orders_that_no_sentence_is_long_enough_for_are_left_out() -> None:
    assert estimate([["a"], ["b"]], 5).order == 3


@pytest.mark.parametrize(
    ("sentences", "order", "message"),
    [
        ([], 2, "no text"),
        ([[]], 2, "no text"),
        ([["a"]], 0, "order=0: expected at least 1"),
        ([["a", "<s>"]], 2, "reserved"),
    ],
)
def test_what_makes_no_model_is_refused(
    sentences: list[list[str]], order: int, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        estimate(sentences, order)


@given(sentences=texts, order=st.integers(1, 4))
def test_an_arpa_file_holds_the_model_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, sentences: list[list[str]], order: int
) -> None:
    path = tmp_path_factory.mktemp("arpa") / "model.arpa"
    model = estimate(sentences, order)
    write_arpa(path, model)
    again = read_arpa(path)
    assert again == model
    first = path.read_bytes()
    write_arpa(path, again)
    assert path.read_bytes() == first


OTHERS = """
\\data\\
ngram 1=3
ngram 2=1

\\1-grams:
-0.5 <s> -0.25
-0.75 </s>
-0.5 a -0.125

\\2-grams:
-0.0625 a </s>

\\end\\
what comes behind it is not read
"""


def test_files_of_other_tools_are_read(tmp_path: Path) -> None:
    """Spaces for tabs, weights left out, no <unk>."""
    path = tmp_path / "others.arpa"
    path.write_text(OTHERS)
    model = read_arpa(path)
    assert log10_probability(model, ("a",), END) == -0.0625
    assert log10_probability(model, (BEGIN,), "a") == -0.75
    assert log10_probability(model, ("a",), "zebra") == -0.125 - 99


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\data\\", "", r"line 3: expected \\data\\, got 'ngram 1=3'"),
        (OTHERS, "", "cut short at line 0"),
        (OTHERS, "\0\0\0", r"line 1: expected \\data\\"),
        ("ngram 1=3", "ngram 1=many", "line 3: expected ngram 1=COUNT"),
        ("ngram 1=3", "ngram 2=3", "line 3: expected ngram 1=COUNT"),
        ("ngram 2=1", "ngram 1=1", "line 4: expected ngram 2=COUNT"),
        ("ngram 1=3", "ngram 1=999999999999999", "line 11: expected 999999999999999 1-grams"),
        ("ngram 1=3", "ngram 1=" + "9" * 5000, "line 3: expected ngram 1=COUNT"),
        ("-0.5 a", "nan a", "line 9: expected a logarithm, 0 at most, got 'nan'"),
        ("-0.5 a", "0.5 a", "line 9: expected a logarithm, 0 at most, got '0.5'"),
        ("-0.5 a", "-inf a", "line 9: expected a logarithm"),
        ("-0.125", "inf", "line 9: expected a logarithm, 99 at most, got 'inf'"),
        ("-0.5 a", "-0.5 </s>", "line 9: expected no n-gram twice"),
        ("-0.5 a", "-0.5  a", "line 9: expected a number, 1 words"),
        ("a </s>", "a </s> </s> </s>", "line 12: expected a number, 2 words"),
        ("\\2-grams:", "\\3-grams:", "line 11: expected a number, 1 words"),
        ("-0.0625 a </s>", "", r"line 14: expected 1 2-grams before \\end\\, got '0'"),
        ("\\end\\", "", "line 15: expected a number, 2 words"),
        ("\n\\end\\\nwhat comes behind it is not read\n", "", "cut short at line 12"),
        ("-0.5 a", "-0.5 " + "a" * 70000, "line 9: expected a line of fewer than 65,536"),
    ],
)
def test_a_malformed_arpa_file_is_named_in_one_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "bad.arpa"
    path.write_text(OTHERS.replace(old, new))
    with pytest.raises(ModelError, match=message) as caught:
        read_arpa(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(path)) + 200


@given(noise=st.binary(max_size=200), place=st.integers(0, len(OTHERS)))
def test_any_damage_is_read_or_named(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int
) -> None:
    path = tmp_path_factory.mktemp("arpa") / "noise.arpa"
    path.write_bytes(OTHERS[:place].encode() + noise + OTHERS[place + len(noise) :].encode())
    with contextlib.suppress(ModelError):
        assert read_arpa(path).order == 2


def test_no_arpa_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="expected an ARPA file: No such file"):
        read_arpa(tmp_path / "none.arpa")
    with pytest.raises(ModelError, match="expected an ARPA file: Is a directory"):
        read_arpa(tmp_path)


def test_no_held_out_clip_is_in_the_text() -> None:
    transcripts = {"a": "One, two.", "b": "Three", "c": "one two", "d": "four", "e": "--"}
    assert permitted(transcripts, {"b": "Three"}) == ["one two", "one two", "four"]
    assert permitted(transcripts, {"a": "One, two."}) == ["three", "four"]  # c says the same


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        ({"a": "x", "z": "y"}, r"does not name z, which is held out \(1 of 2 are missing\)"),
        ({"a": "one"}, "nothing is left"),
    ],
)
def test_a_text_that_can_not_be_trusted_is_refused(held_out: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        permitted({"a": "one", "b": "One!"}, held_out)


def test_transcripts_are_read_as_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text('LJ1|5 "men"|five "men"\r\nLJ2|x|é\n', encoding="utf-8", newline="")
    assert read_transcripts(path) == {"LJ1": 'five "men"', "LJ2": "é"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a|b\na|c\n", "line 2: expected no clip twice, got a"),
        (b"a|b\n\n", r"line 2: expected name\|transcript, got"),
        (b"no bar\n", r"line 1: expected name\|transcript, got 'no bar"),
        (b"a|\xff\n", "no UTF-8 text"),
    ],
)
def test_transcripts_that_are_none_are_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "metadata.csv"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=message):
        read_transcripts(path)


@pytest.mark.real
@pytest.mark.slow
def test_all_of_ljspeechs_transcripts() -> None:
    """Higher orders know the held-out clips' language better, though not one of their words."""
    transcripts = read_transcripts(real_data() / "ljspeech_metadata_full.csv")
    assert len(transcripts) == 13100
    held_out = dict(sorted(transcripts.items())[-600:])
    text = [t.split() for t in permitted(transcripts, held_out)]
    wanted = [w.split() for w in permitted(held_out, {})]
    found = [perplexity(estimate(text, order), wanted) for order in (1, 2, 3)]
    assert found[0] > 1.5 * found[1] > 1.5 * found[2]
