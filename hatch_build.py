"""Compiles ``pipeline/features/kernel.c`` when shardwell is built; without a compiler it goes on.

The kernel is plain C that Python loads with ctypes: one file for every Python version, one for each
precision. Where it
can't be compiled, features are computed by SciPy: the same values, at a third of the speed.
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zlib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FOLDER = Path(__file__).parent / "pipeline" / "features"
REALS = {"float32": "float", "float64": "double"}
FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-fno-math-errno")


class KernelBuildHook(BuildHookInterface[Any]):
    """Adds the compiled kernels to the wheel, and puts them beside their source in a checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile before the wheel is packed."""
        if self.target_name != "wheel":
            return
        made = [compile_kernel(precision, real) for precision, real in REALS.items()]
        found = [path for path in made if path is not None]
        if found:
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform()}"
            build_data["artifacts"] += [str(path.relative_to(self.root)) for path in found]


def compile_kernel(precision: str, real: str) -> Path | None:
    """The compiled kernel, or None where there is no compiler that can make it."""
    compiler = shlex.split(os.environ.get("CC") or shutil.which("cc") or "gcc")
    ending = "dylib" if sys.platform == "darwin" else "so"
    target = FOLDER / f"_kernel_{precision}.{ending}"
    target.unlink(missing_ok=True)  # what an older source was compiled to must not be loaded
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    source = FOLDER / "kernel.c"
    abi = zlib.crc32(source.read_bytes())
    given = [f"-DREAL={real}", f"-DABI={abi}u", "-o", str(temporary), str(source), "-lm"]
    command = [*compiler, *FLAGS, *given]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        reason = (done.stderr or "it failed") if done.returncode else ""
    except OSError as error:
        reason = str(error)
    if reason:
        print(f"shardwell: no compiled kernel, SciPy will do: {reason}", file=sys.stderr)
        temporary.unlink(missing_ok=True)
        return None
    temporary.rename(target)
    return target


def _platform() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
