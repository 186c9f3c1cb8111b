"""The ``Recipe`` and ``Corpus`` types, and how a recipe's file is run.

A recipe is two files and no registration: ``recipes/x.py`` with a ``RECIPE`` and
``manifests/x.toml``. It turns the names and bytes of a corpus into ``Example`` values; it decodes
nothing. ``recipe_files`` finds the two files.
"""

import importlib.util
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from pipeline.archive import Opened, Reader
from pipeline.audio import Audio
from pipeline.errors import RecipeError, unknown_name
from pipeline.records import Example, Piece, Ref

LABEL_TYPES = ("class", "int", "float", "text", "characters")
RESERVED = ("key", "features", "lengths", "split", "hash", "refs", "seeds")  # columns of our own


@dataclass(frozen=True)
class Corpus:
    """The opened sources of a protocol by role, as a recipe sees them."""

    sources: Mapping[str, Opened]

    def _source(self, role: str) -> Opened:
        if role not in self.sources:
            raise RecipeError(
                f"the recipe reads a source in the role {role!r}; "
                f"the protocol gives {', '.join(sorted(self.sources))}"
            )
        return self.sources[role]

    def members(self, role: str) -> Collection[str]:
        """The names of an archive's files, sorted, without a leading ``./``."""
        return self._source(role).members

    def ref(self, role: str, member: str) -> Ref:
        """Where a member's bytes lie.

        Raises:
            RecipeError: the archive has no such member.
        """
        source = self._source(role)
        name = f"{source.name}/{member}" if source.loose else source.name
        try:
            return Ref(name, *source.members[member])
        except KeyError:
            if not source.members:
                raise RecipeError(
                    f"source {source.name}: expected a tar, plain or packed by gzip or bzip2, got "
                    f"none in {source.path}; is this the archive that the manifest means?"
                ) from None
            raise RecipeError(
                f"{source.path}: expected a member {member}, got none of that name among "
                f"{len(source.members)}; is this the archive that the manifest means?"
            ) from None

    def slice(self, role: str, offset: int, size: int) -> Ref:
        """Bytes ``[offset, offset + size)`` of a source's plain file."""
        return Ref(self._source(role).name, offset, size)

    def size(self, role: str) -> int:
        """The size of a source's plain file in bytes."""
        return self._source(role).size

    def read(self, ref: Ref) -> bytes:
        """The bytes of a ref, for lists and tables (audio is read by the builders)."""
        reader = Reader({s.name: s.path for s in self.sources.values()})
        return bytes(reader.piece(ref).data)

    def read_text(self, role: str, member: str) -> str:
        """A member's text, UTF-8.

        Raises:
            RecipeError: the archive has no such member, or it is not UTF-8.
        """
        try:
            return self.read(self.ref(role, member)).decode("utf-8")
        except UnicodeDecodeError as error:
            path = self._source(role).path
            raise RecipeError(f"{path}: member {member}: expected UTF-8 text, {error}") from None


@dataclass(frozen=True)
class Recipe:
    """How one corpus becomes examples.

    Attributes:
        version: raised whenever the recipe would yield other examples; part of the fingerprint.
        labels: name → ``"class"`` (stored as an index into sorted names), ``"int"``, ``"float"``
            ``"text"``, or ``"characters"``: a text, stored as the token ids of its characters once
            it is normalised (``pipeline.characters``).
        features: the kinds that fit, the default first.
        examples: ``(corpus, **params) -> Iterator[Example]`` with the protocol's parameters.
        load: ``(pieces, audio) -> array``, the bytes of one example as ``(n_samples,)`` samples or
            any other array; a module-level function. Raises ``ClipError`` for a bad example.
        audio: the usual audio handling, ``None`` for data that is not audio.
        recorded: the recordings' rate in Hz where ``audio`` has another.
        noise: ``(corpus, seconds) -> Iterator[Example]``, recordings of noise to be mixed in, cut
            into pieces of so many seconds (None: whole): the split ``noise`` of waveform datasets.
        generators: for generated sources, ``(path, **params)`` writes the file at ``path``.
        hints: what a trainer should default to for this corpus; written into ``dataset.json``.
        files: for a person's own data, ``(given, found, **params)`` names the files to read: see
            ``pipeline.fetch.local``. Without it they are all that a folder holds.
        settle: ``(offline, **params) -> params`` with what may move pinned, as a branch to its
            commit; they are declared, and part of the fingerprint.
        fitted: ``(recipe, corpus, **params) -> Recipe`` with the labels and hints that only the
            data tell.
        foreign: whether the data are anybody's: recordings may have any rate and width (waveforms
            are stored as floats), and any split may be absent.
    """

    name: str
    version: int
    labels: Mapping[str, str]
    features: tuple[str, ...]
    examples: Callable[..., Iterator[Example]]
    load: Callable[[Sequence[Piece], Audio | None], npt.NDArray[Any]]
    audio: Audio | None = None
    recorded: int | None = None
    noise: Callable[[Corpus, float | None], Iterator[Example]] | None = None
    generators: Mapping[str, Callable[..., None]] = field(default_factory=dict)
    hints: Mapping[str, Any] = field(default_factory=dict)
    files: Callable[..., Iterable[str]] | None = None
    settle: Callable[..., Mapping[str, Any]] | None = None
    fitted: "Callable[..., Recipe] | None" = None
    foreign: bool = False

    def __post_init__(self) -> None:
        for label, kind in self.labels.items():
            if label in RESERVED or not label.isidentifier():
                raise RecipeError(
                    f"recipe {self.name}: label {label!r}: expected a name, none of "
                    f"{', '.join(RESERVED)}"
                )
            if kind == "characters" and f"{label}_lengths" in self.labels:
                raise RecipeError(
                    f"recipe {self.name}: label {label}_lengths: expected another name, for so "
                    f"are the lengths of {label} called"
                )
            if kind not in LABEL_TYPES:
                raise unknown_name(
                    f"type of label {label} in recipe {self.name}", kind, LABEL_TYPES
                )


def load_recipe(code: Path) -> Recipe:
    """Run a recipe's file and return its ``RECIPE``.

    Raises:
        RecipeError: the file fails, or holds no ``RECIPE``.
    """
    module_name = f"shardwell_recipe_{code.stem}"
    spec = importlib.util.spec_from_file_location(module_name, code)
    if spec is None or spec.loader is None:
        raise RecipeError(f"{code}: expected a Python file that can be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses in a recipe look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a stranger's file may raise
        raise RecipeError(f"{code}: can't be loaded: {type(error).__name__}: {error}") from error
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise RecipeError(f"{code}: expected RECIPE = Recipe(...) in it, got {recipe!r}")
    return recipe
