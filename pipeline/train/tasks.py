"""What a model is trained for: each a ``Task`` of functions and one line in ``TASKS``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy, softmax

from pipeline.dataset import Sealed
from pipeline.train import transcription
from pipeline.train.metrics import class_scores


@dataclass(frozen=True)
class Task:
    """Functions between a batch, a model's output and a score.

    Attributes:
        label: the type of the label that is learnt: ``class``, ``text``.
        names: dataset and target → what the outputs stand for: the model has as many.
        targets: the batch's column of the target, and the names → tensors that ``loss`` takes (a
            tensor, or a tuple of them), on the CPU.
        loss: output, targets, smoothing, the examples' keys for errors (maybe none) → the mean over
            the batch, a scalar.
        answers: output and names → one plain value for each example.
        truths: the batch's column → the same for what was wanted.
        scores: all answers, all truths, names → numbers by their names.
        best: output and names, how many → for each example its best answers and their
            probabilities.
        follow: what was remembered of a stream (None at its beginning), what the model says of the
            next chunk, names, how many → what to remember, and the best answers so far.
        watch: the score that tells the best model.
        highest: whether more of it is better.
    """

    label: str
    names: Callable[[Sealed, str], tuple[str, ...]]
    targets: Callable[[Any, Sequence[str]], Any]
    loss: Callable[[Any, Any, float, Sequence[str]], torch.Tensor]
    answers: Callable[[Any, Sequence[str]], list[Any]]
    truths: Callable[[Any], list[Any]]
    scores: Callable[[Sequence[Any], Sequence[Any], Sequence[str]], Mapping[str, float]]
    best: Callable[[Any, Sequence[str], int], list[list[tuple[str, float]]]]
    follow: Callable[[Any, Any, Sequence[str], int], tuple[Any, list[tuple[str, float]]]]
    watch: str
    highest: bool = True


def _class_loss(
    logits: torch.Tensor, wanted: torch.Tensor, smoothing: float, keys: Sequence[str]
) -> torch.Tensor:
    return cross_entropy(logits, wanted, label_smoothing=smoothing)


def _classes(logits: torch.Tensor, names: Sequence[str]) -> list[int]:
    return [int(n) for n in logits.argmax(dim=1).tolist()]


def _likeliest(
    logits: torch.Tensor, names: Sequence[str], most: int
) -> list[list[tuple[str, float]]]:
    found = softmax(logits.float(), dim=1).topk(min(most, len(names)), dim=1)
    rows = zip(found.indices.tolist(), found.values.tolist(), strict=True)
    return [[(names[i], p) for i, p in zip(*row, strict=True)] for row in rows]


def _likeliest_so_far(
    before: None, logits: torch.Tensor, names: Sequence[str], most: int
) -> tuple[None, list[tuple[str, float]]]:
    """A classifier's logits are of all that it has heard: there is nothing to remember."""
    return before, _likeliest(logits, names, most)[0]


CLASSIFY = Task(
    label="class",
    names=lambda sealed, target: sealed.classes[target],
    targets=lambda column, names: column,
    loss=_class_loss,
    answers=_classes,
    truths=lambda column: column.tolist(),
    scores=class_scores,
    best=_likeliest,
    follow=_likeliest_so_far,
    watch="accuracy",
)

TRANSCRIBE = Task(
    label="text",
    names=transcription.names,
    targets=transcription.targets,
    loss=transcription.loss,
    answers=transcription.answers,
    truths=transcription.truths,
    scores=transcription.scores,
    best=transcription.best,
    follow=transcription.follow,
    watch="cer",
    highest=False,
)

TASKS: dict[str, Task] = {"classify": CLASSIFY, "transcribe": TRANSCRIBE}
