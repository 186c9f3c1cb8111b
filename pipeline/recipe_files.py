"""Where recipes lie: ``recipes/x.py`` and ``manifests/x.toml``, found by name or by path.

Recipes are found by file and never imported by the name ``recipes``, which may be another
package's. This room runs nothing and stays light: ``shardwell list`` needs it alone.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import UsageError, unknown_name
from pipeline.tables import ENDINGS


@dataclass(frozen=True)
class Place:
    """A recipe's two files."""

    name: str
    code: Path
    manifest: Path


def folders() -> tuple[Path, Path]:
    """``recipes/`` and ``manifests/``: inside the package in a wheel, beside it in a checkout."""
    package = Path(__file__).parent
    inside = package / "recipes"
    root = package if inside.is_dir() else package.parent
    return root / "recipes", root / "manifests"


def known_recipes() -> dict[str, Place]:
    """The recipes that come with shardwell, by name."""
    recipes, manifests = folders()
    codes = sorted(recipes.glob("[!_]*.py"))
    return {p.stem: Place(p.stem, p, manifests / f"{p.stem}.toml") for p in codes}


def locate(name_or_path: str) -> Place:
    """The files of a recipe: a known name, or the path of a ``.py`` file with its ``.toml`` beside.

    Raises:
        UnknownNameError: no such recipe; lists the known ones.
    """
    if name_or_path.endswith(".py"):
        code = Path(name_or_path).resolve()
        if not code.is_file():
            raise UsageError(f"{name_or_path}: expected a recipe file, got no such file")
        beside = code.with_suffix(".toml")
        shipped = code.parent.parent / "manifests" / beside.name
        return Place(code.stem, code, shipped if shipped.is_file() else beside)
    known = known_recipes()
    if name_or_path not in known and Path(name_or_path).exists():
        recipe = "table" if name_or_path.lower().endswith(ENDINGS) else "folder"
        raise UsageError(
            f"{name_or_path!r} is data, not a recipe; prepare it with: "
            f"shardwell prepare {recipe} {shlex.quote(name_or_path)}"
        )
    if name_or_path not in known:
        raise unknown_name("recipe", name_or_path, known)
    return known[name_or_path]
