"""Compiles ``pipeline/features/kernel.c`` when shardwell is built; without a compiler it goes on.

The kernel is plain C that Python loads with ctypes: one file for every Python version. Where it
can't be compiled, features are computed by SciPy: the same values, at half the speed.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path(__file__).parent / "pipeline" / "features"
FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-fno-math-errno")


class KernelBuildHook(BuildHookInterface[Any]):
    """Adds the compiled kernel to the wheel, and puts it beside its source in a checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is packed."""
        if self.target_name != "wheel":
            return
        target = compile_kernel()
        if target is not None:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform()}"
            build_data["artifacts"].append(str(target.relative_to(self.root)))


def compile_kernel() -> Path | None:
    """The compiled kernel, or None where there is no compiler that can make it."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    target = FOLDER / ("_kernel.dylib" if sys.platform == "darwin" else "_kernel.so")
    if compiler is None or os.name == "nt":
        print("shardwell: no C compiler: features will be computed by SciPy", file=sys.stderr)
        return None
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    command = [compiler, *FLAGS, "-o", str(temporary), str(FOLDER / "kernel.c"), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"shardwell: {' '.join(command)} failed:\n{done.stderr}", file=sys.stderr)
        return None
    temporary.rename(target)
    return target


def _platform() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
