"""Scores of a model on a split."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.loader import Split, make_loader
from pipeline.train.augmenting import Step
from pipeline.train.tasks import Task

BATCH = 256
VALUES = 1 << 22  # of features in a batch: long clips come in smaller ones


@dataclass(frozen=True)
class Evaluation:
    """Answers beside truths, in the order of the split, and what they come to.

    ``chance`` is the share of the commonest truth: what answering it always would score.
    """

    answers: Sequence[Any]
    truths: Sequence[Any]
    loss: float
    scores: Mapping[str, float]
    chance: float


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    task: Task,
    split: Split,
    target: str,
    names: Sequence[str],
    device: torch.device,
    rank: int = 0,
    world: int = 1,
    changes: Sequence[Step] = (),
) -> Evaluation:
    """Evaluate a ``Recogniser``; of several processes each takes its share, all get the whole.

    ``changes`` are done to every batch, as a loader's transform: noise, another speed.
    """
    model.eval()
    rows: list[tuple[int, Any, Any]] = []
    losses: list[tuple[float, int]] = []
    part = split.select(range(rank, len(split), world)) if world > 1 else split
    place = rank
    batches = make_loader(part, batch_size_of(part), rank=0, world_size=1, transform=list(changes))
    for batch in batches:
        output = model(batch["features"].to(device), batch["lengths"].to(device))
        wanted = on(task.targets(batch[target], names), device)
        truths = task.truths(batch[target])
        loss = task.loss(output, wanted, 0.0, batch.get("key", ()))
        losses.append((float(loss), len(truths)))
        for answer, truth in zip(task.answers(output, names), truths, strict=True):
            rows.append((place, answer, truth))
            place += world
    if world > 1:
        from accelerate.utils import gather_object

        rows, losses = gather_object(rows), gather_object(losses)
        rows.sort(key=lambda row: row[0])
    answers, found = [row[1] for row in rows], [row[2] for row in rows]
    count = sum(n for _, n in losses)
    return Evaluation(
        answers,
        found,
        sum(loss * n for loss, n in losses) / max(count, 1),
        task.scores(answers, found, names),
        Counter(found).most_common(1)[0][1] / count if count else 0.0,
    )


def batch_size_of(split: Split) -> int:
    """Examples that are evaluated together: 256, fewer where they are long."""
    if not len(split):
        return 1
    longest = int(split.lengths(np.arange(len(split))).max())
    width = max(n or 1 for n in (split.sealed.columns.shape[1:] or (1,)))
    return min(max(VALUES // max(longest * width, 1), 1), BATCH)


def on(values: Any, device: torch.device) -> Any:
    """A tensor, or a tuple of them, on a device."""
    if isinstance(values, tuple):
        return tuple(on(value, device) for value in values)
    return values.to(device)
