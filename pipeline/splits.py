"""Splits of data that come with none: shared out by a hash; and what people call splits."""

import hashlib
from collections.abc import Collection, Iterable, Sequence

from pipeline.errors import RecipeError
from pipeline.manifest import PROMISED

ALSO_CALLED = {"training": "train", "valid": "validation", "val": "validation", "dev": "validation"}


def split_named(name: str) -> str | None:
    """The split that people mean by a name in any case, as ``dev``; None if it is none of them."""
    plain = ALSO_CALLED.get(name.lower(), name.lower())
    return plain if plain in PROMISED else None


def share_out(groups: Iterable[str], shares: Sequence[int], seed: int) -> dict[str, str]:
    """Group → split, by a hash of seed and group, so that about the stated shares of groups go to
    train, validation and test.

    A group's split depends on nothing else: where groups are added, none of the others moves.

    Raises:
        RecipeError: shares that make no sense, or a split with a share that gets no group.
    """
    if len(shares) != len(PROMISED) or min(shares) < 0 or not sum(shares):
        raise RecipeError(
            f"shares={'+'.join(map(str, shares))}: expected three whole numbers, for "
            f"{', '.join(PROMISED)}, as 8+1+1; 0 leaves a split out"
        )
    found = {group: _split(group, shares, seed) for group in groups}
    taken = set(found.values())
    empty = [s for s, share in zip(PROMISED, shares, strict=True) if share and s not in taken]
    if empty:
        raise RecipeError(
            f"{' and '.join(empty)}: no example; {len(found):,} groups shared "
            f"{'+'.join(map(str, shares))} by the hash of seed {seed} leave it empty: "
            f"try {_another_seed(found, shares)}, other shares, or name the splits yourself"
        )
    return found


def _another_seed(groups: Collection[str], shares: Sequence[int]) -> str:
    """A seed to try: the first that leaves no split empty, where that is soon found."""
    wanted = sum(share > 0 for share in shares)
    for seed in range(100 if wanted <= len(groups) <= 1000 else 0):
        if len({_split(group, shares, seed) for group in groups}) == wanted:
            return f"seed={seed}"
    return "another seed"


def _split(group: str, shares: Sequence[int], seed: int) -> str:
    key = str(seed).encode()
    if len(key) > hashlib.blake2b.MAX_KEY_SIZE:
        key = hashlib.blake2b(key).digest()
    digest = hashlib.blake2b(group.encode(), digest_size=8, key=key).digest()
    place = int.from_bytes(digest, "big") * sum(shares) >> 64  # in range(sum(shares))
    for split, share in zip(PROMISED, shares, strict=True):
        if place < share:
            return split
        place -= share
    raise AssertionError
