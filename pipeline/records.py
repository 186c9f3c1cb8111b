"""The values that travel between rooms: ``Ref``, ``Piece``, ``Example``, ``Task``, ``ShardInfo``.

All are frozen. A ``Ref`` says where bytes lie, a ``Piece`` holds them; an ``Example`` is what a
recipe yields before anything is decoded; a ``Task`` is one shard's worth of rows of the plan.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

Label = int | float | str | None  # None: no class


@dataclass(frozen=True, slots=True)
class Ref:
    """Bytes ``[offset, offset + size)`` of one verified source.

    ``source`` is its name; for a folder's file, ``name/path of the file in the folder``.
    ``start`` and ``stop`` (in samples at the source's own rate, ``None`` = to the end) cut an audio
    clip after decoding; other data leaves them alone.
    """

    source: str
    offset: int
    size: int
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """The bytes of one ``Ref`` in hand, a view of the mapped source (never a copy).

    Who decodes them appends to ``warnings`` what is odd, but no reason to leave them out.
    """

    data: memoryview
    start: int = 0
    stop: int | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Example:
    """One clip, image or sequence as a recipe names it.

    ``key`` is unique in its dataset; several ``refs`` are joined in order; ``labels`` holds a value
    for every label the recipe declares; an example of the split ``noise`` has None for a class.
    """

    key: str
    split: str
    refs: tuple[Ref, ...]
    labels: Mapping[str, Label] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Task:
    """Rows ``[first, last)`` of the plan table, to become the shard named ``shard``."""

    shard: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A finished shard: its rows, its file's size in bytes and sha256 (hex)."""

    shard: str
    rows: int
    bytes: int
    sha256: str
