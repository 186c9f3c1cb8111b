"""How well texts were recognised: word and character error rates, and hits by alignment.

The alignment is the one with the fewest edits, and among those the one with the most hits; so the
counts are defined, though the alignment itself need not be the only one.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.errors import UsageError


@dataclass(frozen=True)
class Aligned:
    """What became of reference tokens in an alignment; ``insertions`` are the hypothesis's own."""

    hits: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: "Aligned") -> "Aligned":
        return Aligned(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
        )

    @property
    def accuracy(self) -> float:
        """Hits among all places of the alignment; 1 where there are none."""
        edits = self.substitutions + self.deletions + self.insertions
        return _share(self.hits, self.hits + edits)

    @property
    def recall(self) -> float:
        """Hits among the reference's tokens."""
        return _share(self.hits, self.hits + self.substitutions + self.deletions)

    @property
    def precision(self) -> float:
        """Hits among the hypothesis's tokens."""
        return _share(self.hits, self.hits + self.substitutions + self.insertions)

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return _share(2 * self.hits, 2 * self.hits + self._one_sided)

    @property
    def _one_sided(self) -> int:
        return 2 * self.substitutions + self.deletions + self.insertions


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def align(reference: Sequence[Hashable], hypothesis: Sequence[Hashable]) -> Aligned:
    """The best alignment of two sequences of tokens."""
    numbers = {token: i for i, token in enumerate({*reference, *hypothesis})}
    heard = np.array([numbers[token] for token in hypothesis], np.int64)
    n, m = len(reference), len(hypothesis)
    edit = n + m + 1  # dearer than all hits together are worth
    columns = np.arange(m + 1) * edit
    costs = columns.copy()
    for token in reference:
        diagonal = costs[:-1] + np.where(heard == numbers[token], -1, edit)
        best = costs + edit
        np.minimum(best[1:], diagonal, out=best[1:])
        costs = np.minimum.accumulate(best - columns) + columns
    edits = -(-int(costs[-1]) // edit)
    hits = edits * edit - int(costs[-1])
    substitutions = n + m - 2 * hits - edits
    return Aligned(hits, substitutions, n - hits - substitutions, m - hits - substitutions)


@dataclass(frozen=True)
class Recognition:
    """Of all texts together: error rates, and the shares of ``Aligned``'s characters."""

    wer: float
    cer: float
    accuracy: float
    precision: float
    recall: float
    f1: float


def recognition(references: Sequence[str], hypotheses: Sequence[str]) -> Recognition:
    """Compare recognised texts with what was said.

    Raises:
        UsageError: no texts, texts without a partner, or nothing was said in any of them.
    """
    from torchmetrics.functional.text import char_error_rate, word_error_rate

    if len(references) != len(hypotheses) or not "".join(references).strip():
        raise UsageError(
            f"{len(references)} references, {len(hypotheses)} hypotheses: "
            "expected as many of both, and a word in at least one reference"
        )
    said, heard = list(references), list(hypotheses)
    counts = sum((align(*pair) for pair in zip(said, heard, strict=True)), Aligned())
    return Recognition(
        float(word_error_rate(heard, said)),
        float(char_error_rate(heard, said)),
        counts.accuracy,
        counts.precision,
        counts.recall,
        counts.f1,
    )
