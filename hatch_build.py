"""Compiles ``pipeline/features/kernel.c`` when shardwell is built; without a compiler it goes on.

The kernel is plain C that Python loads with ctypes: one library for every Python version, for each
precision and instruction set. Where none can be compiled, features are computed by SciPy: the same
values, at a quarter of the speed.
"""

import itertools
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path(__file__).parent / "pipeline" / "features"
REALS = {"float32": "float", "float64": "double"}
LEVELS = {"any": (), "v3": ("-march=x86-64-v3",), "v4": ("-march=x86-64-v4",)}
FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-fno-math-errno")


class KernelBuildHook(BuildHookInterface[Any]):
    """Adds the compiled kernels to the wheel, and puts them beside their source in a checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is packed."""
        if self.target_name != "wheel":
            return
        levels = LEVELS if platform.machine() in ("x86_64", "AMD64") else ("any",)
        with ThreadPoolExecutor() as pool:
            made = pool.map(compile_kernel, *zip(*itertools.product(REALS, levels), strict=True))
        found = [path for path in made if path is not None]
        if found:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform()}"
            build_data["artifacts"] += [str(path.relative_to(self.root)) for path in found]


def compile_kernel(precision: str, level: str) -> Path | None:
    """The compiled kernel, or None where there is no compiler that can make it."""
    compiler = shlex.split(os.environ.get("CC") or shutil.which("cc") or "gcc")
    ending = "dylib" if sys.platform == "darwin" else "so"
    target = FOLDER / f"_kernel_{precision}_{level}.{ending}"
    target.unlink(missing_ok=True)  # what an older source was compiled to must not be loaded
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    source = FOLDER / "kernel.c"
    abi = zlib.crc32(source.read_bytes())
    given = [*LEVELS[level], f"-DREAL={REALS[precision]}", f"-DABI={abi}u"]
    command = [*compiler, *FLAGS, *given, "-o", str(temporary), str(source), "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        reason = (done.stderr or "it failed") if done.returncode else ""
    except OSError as error:
        reason = str(error)
    if reason:
        print(f"shardwell: no kernel {target.name}, it goes without: {reason}", file=sys.stderr)
        temporary.unlink(missing_ok=True)
        return None
    temporary.rename(target)
    return target


def _platform() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
