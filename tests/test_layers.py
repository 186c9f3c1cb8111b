"""The import law: a room imports only from lower floors; walls stand; nobody knows a recipe."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pipeline"

FLOORS = (
    {
        "errors",
        "records",
        "engines",
        "files",
        "columns",
        "compiled",
        "mapping",
        "importing",
        "cores",
        "holding",
        "images",
        "tables",
    },
    {
        "manifest",
        "archive",
        "audio",
        "features",
        "shard",
        "moments",
        "characters",
        "recipe_files",
        "figures",
        "hub",
    },
    {"labels", "declared"},
    {"fetch", "recipe", "plan", "dataset", "rows", "splits", "hub_files", "parquet_rows"},
    {"build", "remote"},
    {"probe", "ship", "cache", "contents", "publish"},
    {"prepare", "loader", "report"},
    {"train", "doctor"},
    {"cli"},
)
WITHIN_FLOOR = {
    ("engines", "errors"),
    ("columns", "errors"),
}  # errors are the ground that everyone stands on
PRODUCER = {
    "labels",
    "fetch",
    "archive",
    "recipe",
    "recipe_files",
    "plan",
    "build",
    "engines",
    "prepare",
    "probe",
    "ship",
}
CONSUMER = {"loader", "publish", "report", "train"}
RECIPES_MAY_IMPORT = {"records", "recipe", "audio", "features", "errors"} | {
    "splits",  # what the recipes for people's own data share
    "tables",
    "hub_files",
    "parquet_rows",
}
LAZY_ROOMS = {"cli", "__init__"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """(imported room of pipeline, whether inside a function) of a file."""
    tree = ast.parse(path.read_text())
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""]
            if node.module == "pipeline":
                names = [f"pipeline.{alias.name}" for alias in node.names]
        for name in names:
            if name.partition(".")[0] == "pipeline" and "." in name:
                yield name.split(".")[1], id(node) in inside


FILES = sorted(PACKAGE.rglob("*.py"))
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_room_imports_downhill(path: Path) -> None:
    room = room_of(path)
    if room in ("__init__", "__main__"):
        return
    assert room in FLOOR_OF, f"{room} stands on no floor"
    for other, lazy in imports(path):
        assert other == room or FLOOR_OF[other] < FLOOR_OF[room] or (room, other) in WITHIN_FLOOR, (
            f"{path} imports {other}, which is not on a lower floor"
        )
        assert not (lazy and other != room) or room in LAZY_ROOMS, f"{path}: {other} in a function"
        if room in CONSUMER:
            assert other not in PRODUCER, f"{path} reaches through the wall to {other}"


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.py")), ids=lambda p: p.stem)
def test_recipes_import_few_rooms(path: Path) -> None:
    assert {room for room, _ in imports(path)} <= RECIPES_MAY_IMPORT


def test_nothing_in_the_package_knows_a_recipe_by_name() -> None:
    """Help texts and docstrings may name one as an example; code may not compare with it."""
    names = {path.stem for path in (ROOT / "recipes").glob("*.py")}
    names -= {"hub", "folder", "table"}  # words that mean other things, too
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in names:
                raise AssertionError(f"{path}:{node.lineno} names the recipe {node.value}")


def test_every_file_is_short_enough_to_read() -> None:
    for path in [*FILES, *(ROOT / "recipes").glob("*.py")]:
        assert len(path.read_text().splitlines()) <= 300, path


@pytest.mark.parametrize(
    "path", sorted((ROOT / "tests" / "bench").glob("*.py")), ids=lambda path: path.stem
)
def test_benchmarks_import_what_is_there(path: Path) -> None:
    """They are run by hand, and seldom; types are not checked there."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith(
            ("pipeline", "tests")
        ):
            continue
        module = importlib.import_module(str(node.module))
        for name in node.names:
            assert hasattr(module, name.name), f"{node.module} has no {name.name}"
