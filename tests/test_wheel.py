"""A wheel built from the checkout, put elsewhere, works as the checkout does."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, unpacked as pip would put them."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(ROOT)], check=True)
    (wheel,) = folder.glob("shardwell-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(installed: Path, *arguments: str, cwd: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    command = [sys.executable, "-P", "-m", "pipeline", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=cwd, env=environment
    )
    return done.stdout


def test_the_wheel_holds_the_page_of_the_report(installed: Path) -> None:
    held = {path.name for path in (installed / "pipeline" / "report").iterdir()}
    assert {"page.html", "page.css", "page.js"} <= held


def test_the_wheel_holds_recipes_and_manifests(installed: Path) -> None:
    for name in ("recipes", "manifests"):
        assert {p.name for p in (ROOT / name).iterdir() if p.is_file()} == {
            p.name for p in (installed / "pipeline" / name).iterdir() if p.is_file()
        }
    assert not (installed / "recipes").exists()
    assert not (installed / "tests").exists()
    assert (installed / "pipeline" / "py.typed").is_file()
    kernels = {p.name for p in (ROOT / "pipeline" / "features").glob("_kernel_*")}
    assert {p.name for p in (installed / "pipeline" / "features").glob("_kernel_*")} == kernels


def test_the_wheel_prepares_what_the_checkout_prepares(installed: Path, tmp_path: Path) -> None:
    assert "speech_commands" in run(installed, "list", cwd=tmp_path)
    ask = ("prepare", "digit_sum", "--cache", "cache", "--quiet", "--workers", "1")
    folder = tmp_path / run(installed, *ask, cwd=tmp_path).splitlines()[-1]
    assert "all is well" in run(installed, "verify", str(folder), cwd=tmp_path)
    command = [sys.executable, "-m", "pipeline", *ask, "--out", str(tmp_path / "checkout")]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    other = tmp_path / "checkout" / "digit_sum" / folder.name
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {
        p.name: p.read_bytes() for p in other.iterdir()
    }


@pytest.mark.parametrize("compiler", ["/nonexistent/cc", "false"])
def test_without_a_compiler_the_wheel_is_built_all_the_same(tmp_path: Path, compiler: str) -> None:
    copy = tmp_path / "checkout"
    ignored = shutil.ignore_patterns(".git", ".venv", "demo", "tests", "_kernel_*", ".*_cache")
    shutil.copytree(ROOT, copy, ignore=ignored)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    environment = os.environ | {"CC": compiler}
    command = [*build, "--wheel-dir", str(tmp_path), str(copy)]
    subprocess.run(command, check=True, env=environment)
    assert [p.name for p in tmp_path.glob("*.whl")] == ["shardwell-0.1.0-py3-none-any.whl"]
