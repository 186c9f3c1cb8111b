"""Compiles the C files of ``pipeline`` when shardwell is built; without a compiler it goes on.

They are plain C that Python loads with ctypes: one library for every Python version. The kernel of
the features is one for each precision and instruction set. Where nothing can be compiled, SciPy
computes the features at a quarter of the speed, and batches are gathered run by run.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE = Path(__file__).parent / "pipeline"
REALS = {"float32": "float", "float64": "double"}
LEVELS = {"any": (), "v3": ("-march=x86-64-v3",), "v4": ("-march=x86-64-v4",)}
FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-fno-math-errno")


class CompilingHook(BuildHookInterface[Any]):
    """Adds the libraries to the wheel, and puts them beside their source in a checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is packed."""
        if self.target_name != "wheel":
            return
        with ThreadPoolExecutor() as pool:
            made = pool.map(lambda library: compile_library(*library), libraries())
            found = [path for path in made if path is not None]
        if found:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform()}"
            build_data["artifacts"] += [str(path.relative_to(self.root)) for path in found]


def libraries() -> Iterator[tuple[Path, str, list[str]]]:
    """Every library's C source, name and compiler options."""
    yield PACKAGE / "loader" / "gather.c", "_gather", ["-pthread"]
    levels = LEVELS if platform.machine() in ("x86_64", "AMD64") else ("any",)
    for precision, real in REALS.items():
        for level in levels:
            name = f"_kernel_{precision}_{level}"
            # Sixteen float32 fill a vector of AVX-512; twice as many float64 would leave the cache.
            lanes = 16 if (precision, level) == ("float32", "v4") else 8
            given = [*LEVELS[level], f"-DREAL={real}", f"-DLANES={lanes}"]
            yield PACKAGE / "features" / "kernel.c", name, given


def compile_library(source: Path, name: str, options: list[str]) -> Path | None:
    """The compiled library, or None where there is no compiler that can make it."""
    compiler = shlex.split(os.environ.get("CC") or shutil.which("cc") or "gcc")
    ending = "dylib" if sys.platform == "darwin" else "so"
    target = source.with_name(f"{name}.{ending}")
    target.unlink(missing_ok=True)  # what an older source was compiled to must not be loaded
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    given = [*options, f"-DABI={zlib.crc32(source.read_bytes())}u"]
    command = [*compiler, *FLAGS, *given, "-o", str(temporary), str(source), "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        reason = (done.stderr or "it failed") if done.returncode else ""
    except OSError as error:
        reason = str(error)
    if reason:
        print(f"shardwell: no {target.name}, it goes without: {reason}", file=sys.stderr)
        temporary.unlink(missing_ok=True)
        return None
    temporary.rename(target)
    return target


def _platform() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
