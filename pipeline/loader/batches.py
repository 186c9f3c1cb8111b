"""``make_loader``: a torch ``DataLoader`` of padded batches in a seeded, resumable order."""

import torch

from pipeline.errors import UsageError
from pipeline.loader.delivery import Loader
from pipeline.loader.order import Order
from pipeline.loader.split import Split
from pipeline.loader.transform import Transform, arranged
from pipeline.loader.turns import WINDOW, Batching, Ranks, Turns


def make_loader(
    split: Split,
    batch_size: int | None = None,
    shuffle: bool | str = False,
    seed: int = 0,
    drop_last: bool = False,
    max_frames: int | None = None,
    window: int | None = None,
    num_workers: int = 0,
    pin_memory: bool = False,
    rank: int | None = None,
    world_size: int | None = None,
    transform: Transform | None = None,
    device: str | torch.device | None = None,
) -> Loader:
    """A ``DataLoader`` over a split: padded batches with ``lengths`` and every label.

    Each ``iter()`` begins the next epoch, the first being 0; ``set_epoch`` sets it. The order is a
    pure function of (seed, epoch), whatever ``num_workers``; ranks share it out, as found from
    ``torch.distributed`` or given. Every rank gets equally many batches: with ``drop_last`` what
    can't be shared out equally is left out, else the ranks that lack a batch take the epoch's first
    ones again.

    Args:
        split: what ``open_dataset`` gives.
        batch_size: examples in a batch; with ``max_frames`` the most of them, or None.
        shuffle: True for one permutation of all examples; ``"blocks"``, for data larger than
            memory, permutes blocks of 256 examples and then the examples of 32 blocks, so that a
            disk reads long runs; False for the stored order, which is mixed by a hash of the keys.
        seed: of every epoch's permutation.
        drop_last: whether a smaller last batch is left out.
        max_frames: most frames in a padded batch, its longest example times its size; of
            waveforms, samples, whatever the transform makes of them.
        window: examples that are sorted by length together before they are cut into batches, which
            are then mixed; what is padded becomes less. With ``max_frames`` 8,192 unless given.
        num_workers: processes that gather batches. A batch is one copy, so they help only where
            ``transform`` (without ``device``) or the disk takes long.
        pin_memory: whether batches are copied to page-locked memory, for a GPU to fetch.
        rank: this process's number among those that share the order out.
        world_size: how many they are.
        transform: what is done to every batch: a feature's definition, which makes of waveforms
            what a prepared dataset of it gives; any callable ``batch -> batch``; a list of these.
            Batches then carry ``seeds`` (B,) int64, to draw from: see ``draws.uniform``.
        device: where the transform runs, after the batch was moved there (its seeds stay on the
            CPU); None for the processes that gather.

    Raises:
        UsageError: no batch size at all, one below 1, ``seed`` below 0, ``rank`` not below
            ``world_size``, a transform that doesn't fit the split.
    """
    if not isinstance(split, Split):
        raise UsageError(f'{split!r}: expected a split, as data["train"] gives it')
    if max_frames is not None and window is None:
        window = WINDOW
    how = shuffle if isinstance(shuffle, str) else "examples" if shuffle else "none"
    turns = Turns(
        Order(len(split), how, seed),
        Batching(batch_size, max_frames, window, drop_last),
        ranks_of(rank, world_size),
        split.lengths,
        split.identity,
    )
    made, then = arranged(split.batch, transform, split, turns.order.seed, device)
    return Loader(made, then, turns, len(split), turns.order.seed, num_workers, pin_memory)


def ranks_of(rank: int | None, world: int | None) -> Ranks:
    """The ranks that were given, else those that ``torch.distributed`` knows, else one.

    Raises:
        UsageError: one of both is given alone, or ``rank`` is not below ``world``.
    """
    if (rank is None) != (world is None):
        raise UsageError(f"rank={rank}, world_size={world}: expected both or neither")
    if rank is not None and world is not None:
        return Ranks(rank, world)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
    return Ranks(0, 1)
