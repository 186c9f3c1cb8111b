"""Connectionist temporal classification: the loss, and greedy decoding (Graves et al., 2006).

Token 0 is the blank. A transcript of n tokens, r of them equal to the one before, needs n + r
frames: a blank must part equal tokens.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import ctc_loss as torch_ctc_loss

from pipeline.characters import BLANK
from pipeline.errors import ModelError, example_name
from pipeline.train.models.frames import Frames


def needed_frames(tokens: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Frames that each transcript needs at least, (B,) int64.

    ``tokens`` (sum,) are all transcripts on end, ``counts`` (B,) their lengths.
    """
    owners = torch.repeat_interleave(torch.arange(len(counts)), counts)
    same = (tokens[1:] == tokens[:-1]) & (owners[1:] == owners[:-1])
    return counts + torch.bincount(owners[1:][same], minlength=len(counts))


def ctc_loss(
    frames: Frames, tokens: torch.Tensor, counts: torch.Tensor, keys: Sequence[str] = ()
) -> torch.Tensor:
    """The mean over a batch of -log p(transcript | features) per token, a scalar.

    Args:
        frames: what the model returned.
        tokens: (sum,) int64, all transcripts on end.
        counts: (B,) int64, their lengths.
        keys: the examples' names, for errors; their numbers in the batch where there are none.

    Raises:
        ModelError: a transcript that needs more frames than the model left.
    """
    tokens, counts, left = tokens.cpu(), counts.cpu(), frames.lengths.cpu()
    needed = needed_frames(tokens, counts)
    short = (needed > left).nonzero().flatten().tolist()
    if short:
        i = short[0]
        others = f", as do {len(short) - 1} more of its batch" if len(short) > 1 else ""
        raise ModelError(
            f"{example_name(keys, i)}: its transcript needs {int(needed[i])} frames, "
            f"the model leaves {int(left[i])}{others}; take a smaller stride, as --options stride=1"
        )
    log_probs = frames.logits.float().log_softmax(2).transpose(0, 1)
    device = log_probs.device
    losses = torch_ctc_loss(log_probs, tokens.to(device), left, counts, BLANK, reduction="none")
    return (losses / counts.clamp(min=1).to(device)).mean()


def greedy(frames: Frames) -> list[list[int]]:
    """The best token of every frame, repeats merged, blanks removed: tokens of each example."""
    best = frames.logits.argmax(2).cpu()
    texts = []
    for row, length in zip(best, frames.lengths.tolist(), strict=True):
        merged = torch.unique_consecutive(row[:length])
        texts.append(merged[merged != BLANK].tolist())
    return texts
