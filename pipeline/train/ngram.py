"""N-gram language models: interpolated modified Kneser-Ney (Chen & Goodman, 1998), and their use.

Below the highest order, what counts is after how many different words an n-gram was seen; at the
beginning of a sentence, where nothing comes before, how often. Each order takes a discount from
what it saw and gives it to the order below; the last one gives it to all words alike, ``<unk>``
among them. So the probabilities of all words but ``<s>`` sum to 1 after any history.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import UsageError

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
NEVER = -99.0  # log10 of the probability of ``<s>``, as ARPA files have it
FALLBACK = (0.5, 1.0, 1.5)  # KenLM's discounts where a text is too small to estimate them

Gram = tuple[str, ...]


@dataclass(frozen=True)
class NGram:
    """A back-off model.

    Attributes:
        tables: of each order from 1 on, n-gram → (log10 of its probability, log10 of what its
            continuations that were not seen get).
    """

    tables: tuple[Mapping[Gram, tuple[float, float]], ...]

    @property
    def order(self) -> int:
        """The longest n-grams' length."""
        return len(self.tables)

    def words(self) -> Iterator[str]:
        """All that it gives a probability to: every word, ``</s>`` and ``<unk>``."""
        return (word for (word,) in self.tables[0] if word != BEGIN)

    def knows(self, word: str) -> bool:
        """Whether the word was in the text."""
        return (word,) in self.tables[0]


def log10_probability(model: NGram, history: Gram, word: str) -> float:
    """log10 p(word | history), the history's last words; unknown words are ``<unk>``."""
    known = [w if model.knows(w) else UNKNOWN for w in (*history, word)]
    gram, backed_off = tuple(known[-model.order :]), 0.0
    while len(gram) > 1:
        found = model.tables[len(gram) - 1].get(gram)
        if found:
            return backed_off + found[0]
        context = model.tables[len(gram) - 2].get(gram[:-1])
        backed_off += context[1] if context else 0.0
        gram = gram[1:]
    found = model.tables[0].get(gram)
    return backed_off + found[0] if found else NEVER


def perplexity(model: NGram, sentences: Iterable[Sequence[str]]) -> float:
    """10 to the mean of -log10 p over all words and ends of sentences.

    Raises:
        UsageError: there are no sentences.
    """
    total, events = 0.0, 0
    for sentence in sentences:
        words = (BEGIN, *sentence, END)
        for i in range(1, len(words)):
            total += log10_probability(model, words[max(0, i - model.order + 1) : i], words[i])
            events += 1
    if not events:
        raise UsageError("the perplexity of no sentences: expected at least one")
    return math.pow(10, -total / events)


def estimate(sentences: Iterable[Sequence[str]], order: int) -> NGram:
    """The model of a text: sentences of words, or of characters.

    Raises:
        UsageError: no words at all, an order below 1, or a word of the reserved ``<s>``, ``</s>``,
            ``<unk>``.
    """
    if order < 1:
        raise UsageError(f"order={order}: expected at least 1")
    counts = _adjusted(_counted(sentences, order))
    words = {word for (word,) in counts[0]} | {END, UNKNOWN}
    below: dict[Gram, float] = {(word,): 1 / len(words) for word in words}
    probabilities: list[dict[Gram, float]] = []
    weights: list[dict[Gram, float]] = []
    for table in counts:
        discounted, weight = _discounted(table)
        below = {
            gram: share + weight[gram[:-1]] * below[gram[1:] or gram]
            for gram, share in discounted.items()
        }
        if not probabilities:  # nothing was seen of <unk>: all that it has is from below
            below[(UNKNOWN,)] = weight[()] / len(words)
        probabilities.append(below)
        weights.append(weight)
    return _with_back_off(probabilities, weights)


def _counted(sentences: Iterable[Sequence[str]], order: int) -> list[Counter[Gram]]:
    """How often each n-gram of each order is in the text, ``<s>`` and ``</s>`` around sentences."""
    counts: list[Counter[Gram]] = [Counter() for _ in range(order)]
    reserved = {BEGIN, END, UNKNOWN}
    for sentence in sentences:
        if not reserved.isdisjoint(sentence):
            raise UsageError(f"a sentence with one of {BEGIN}, {END}, {UNKNOWN}: they are reserved")
        words = (BEGIN, *sentence, END)
        for n in range(1, order + 1):
            counts[n - 1].update(words[i : i + n] for i in range(len(words) - n + 1))
    if len(counts[0]) <= 2:
        raise UsageError("a language model of no text: expected sentences with words")
    return counts


def _adjusted(counts: list[Counter[Gram]]) -> list[Counter[Gram]]:
    """Below the highest order, the number of different words before an n-gram; ``<s>`` alone left.

    ``<s>`` is never predicted, so it is no event.
    """
    adjusted = []
    for table, longer in zip(counts, [*counts[1:], None], strict=True):
        if longer is None:
            kept = Counter(table)
        else:
            kept = Counter(gram[1:] for gram in longer)
            kept.update({gram: n for gram, n in table.items() if gram[0] == BEGIN})
        del kept[(BEGIN,)]
        adjusted.append(kept)
    return adjusted


def _discounted(table: Counter[Gram]) -> tuple[dict[Gram, float], dict[Gram, float]]:
    """Each n-gram's own share, and of each context the weight that is left for the order below."""
    discounts = _discounts(table)
    totals: defaultdict[Gram, int] = defaultdict(int)
    taken: defaultdict[Gram, float] = defaultdict(float)
    for gram, count in table.items():
        totals[gram[:-1]] += count
        taken[gram[:-1]] += discounts[min(count, 3) - 1]
    shares = {
        gram: (count - discounts[min(count, 3) - 1]) / totals[gram[:-1]]
        for gram, count in table.items()
    }
    return shares, {context: taken[context] / total for context, total in totals.items()}


def _discounts(table: Counter[Gram]) -> tuple[float, float, float]:
    """What is taken from n-grams seen once, twice, more often (Chen & Goodman, 1998, eq. 26)."""
    n1, n2, n3, n4 = (sum(1 for count in table.values() if count == n) for n in (1, 2, 3, 4))
    if not n1 or not n2 or not n3:
        return FALLBACK
    y = n1 / (n1 + 2 * n2)
    once, twice, more = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
    if not (0 < once <= 1 and 0 < twice <= 2 and 0 < more <= 3):
        return FALLBACK
    return once, twice, more


def _with_back_off(
    probabilities: Sequence[Mapping[Gram, float]], weights: Sequence[Mapping[Gram, float]]
) -> NGram:
    """The tables in logarithms; a context's weight stands beside the context.

    Orders that no sentence was long enough for are left out.
    """
    tables = []
    for n, table in enumerate(filter(None, probabilities)):
        left = weights[n + 1] if n + 1 < len(weights) else {}
        logs = {gram: (math.log10(p), _log10(left.get(gram))) for gram, p in table.items()}
        if n == 0:
            logs[(BEGIN,)] = (NEVER, _log10(left.get((BEGIN,))))
        tables.append(logs)
    return NGram(tuple(tables))


def _log10(weight: float | None) -> float:
    """0 for a context that nothing was seen after: all is given to the order below."""
    return math.log10(weight) if weight else 0.0
