"""Transcripts as the targets of a loss."""

from collections.abc import Sequence

import numpy as np
import torch

from pipeline.characters import Alphabet


def encoded(transcripts: Sequence[str], alphabet: Alphabet) -> tuple[torch.Tensor, torch.Tensor]:
    """Transcripts as CTC's targets: all tokens on end, (sum,) int64, and their counts, (B,)."""
    tokens = [alphabet.encode(text) for text in transcripts]
    counts = torch.tensor([len(t) for t in tokens])
    return torch.from_numpy(np.array([t for one in tokens for t in one], np.int64)), counts
