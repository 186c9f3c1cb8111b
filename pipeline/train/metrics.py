"""torchmetrics, and what the trainer counts with it."""

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from unittest.mock import patch

import torch


@cache
def torchmetrics() -> ModuleType:
    """The library, kept from importing torchvision, which it takes wherever it finds one.

    A torchvision that was built for another torch (a CPU-only one has none) fails at import, and
    takes torchmetrics with it; nothing here looks at images.
    """
    import importlib

    from lightning_utilities.core.imports import RequirementCache

    check = RequirementCache._check_available

    def without_vision(self: RequirementCache) -> None:
        check(self)
        if self.requirement == "torchvision":
            self.available = False

    with patch.object(RequirementCache, "_check_available", without_vision):
        return importlib.import_module("torchmetrics.functional")


def class_scores(
    answers: Sequence[int], truths: Sequence[int], names: Sequence[str]
) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 as means over the classes that occur; in [0, 1]."""
    found, wanted = torch.tensor(answers), torch.tensor(truths)
    classification = torchmetrics().classification
    one = {"num_classes": max(len(names), 2)}
    return {
        "accuracy": float(
            classification.multiclass_accuracy(found, wanted, average="micro", **one)
        ),
        "precision": float(classification.multiclass_precision(found, wanted, **one)),
        "recall": float(classification.multiclass_recall(found, wanted, **one)),
        "f1": float(classification.multiclass_f1_score(found, wanted, **one)),
    }


def confusion(answers: Sequence[int], truths: Sequence[int], classes: int) -> list[list[int]]:
    """Rows are the true classes, columns the answers."""
    matrix: torch.Tensor = torchmetrics().classification.multiclass_confusion_matrix(
        torch.tensor(answers), torch.tensor(truths), num_classes=max(classes, 2)
    )
    return [[int(n) for n in row] for row in matrix.tolist()]
