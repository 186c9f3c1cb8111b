"""The libraries: can they be imported, what can they do, was the C code compiled?"""

import importlib.metadata
import importlib.util
import platform
import sys
from collections.abc import Callable
from pathlib import Path

from pipeline import importing
from pipeline.compiled import compiled, newest
from pipeline.doctor.finding import FAIL, OK, WARN, Finding

OLDEST = (3, 11)
FORMATS = {"FLAC": "FLAC", "OGG": "OGG", "MP3": "MP3"}  # name → libsndfile's
EXTRAS = {
    "train": ("accelerate", "matplotlib", "safetensors", "torchmetrics"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "denoise": ("noisereduce",),
    "dask": ("distributed",),
    "s3": ("s3fs",),
    "demo": ("espeakng_loader",),
}
COMPILER = (
    "get GCC 12, Clang or newer (apt install gcc, or clang; xcode-select --install), "
    "then install shardwell from source again: pip install --force-reinstall --no-deps ."
)
PACKAGE = Path(__file__).parent.parent


def python() -> Finding:
    """Its version and the system."""
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    if sys.version_info < OLDEST:
        return Finding(FAIL, found, f"take Python {OLDEST[0]}.{OLDEST[1]} or newer")
    return Finding(OK, found)


def arrays() -> Finding:
    """NumPy and Arrow: without them nothing works."""
    import numpy as np
    import pyarrow as pa

    return Finding(OK, f"NumPy {np.__version__}, Arrow {pa.__version__}")


def torch() -> Finding:
    """PyTorch: for loading and training; prepare goes without."""
    return _imported("torch", lambda: importlib.import_module("torch").__version__)


def gpu() -> Finding:
    """The devices that torch can use."""
    import torch

    if not torch.cuda.is_available():
        return Finding(OK, "none that torch can use; training runs on the CPU")
    devices = range(torch.cuda.device_count())
    names = ", ".join(torch.cuda.get_device_name(number) for number in devices)
    return Finding(OK, f"CUDA {torch.version.cuda}: {names}")


def torchaudio() -> Finding:
    """Whether it can be imported, and whether with its extension."""

    def version() -> str:
        module = importing.torchaudio()
        stubbed = not hasattr(sys.modules["torchaudio._extension"], "__file__")
        extension = "its extension is for CUDA, and not needed" if stubbed else "its extension, too"
        return f"{module.__version__}, {extension}"

    return _imported("torchaudio", version)


def _imported(name: str, version: Callable[[], str]) -> Finding:
    try:
        return Finding(OK, version())
    except Exception as error:  # whatever a broken wheel may raise
        said = " ".join(str(error).split())
        remedy = f"pip install --force-reinstall {name}; torch and torchaudio in versions that fit"
        return Finding(FAIL, f"can't be imported: {said}", remedy)


def kernel() -> Finding:
    """Which variant of ``kernel.c`` computes features here."""
    library = newest(PACKAGE / "features" / "kernel.c", "_kernel_float32")
    if library is None:
        return Finding(
            WARN, "not compiled: SciPy computes features, four times as slowly", COMPILER
        )
    variant = Path(library._name).stem.rpartition("_")[2]
    told = {"v3": "AVX2", "v4": "AVX-512"}.get(variant, "any processor")
    return Finding(OK, f"compiled, for {told}")


def gathering() -> Finding:
    """Whether ``gather.c`` copies batches."""
    if compiled(PACKAGE / "loader" / "gather.c", "_gather") is None:
        return Finding(WARN, "not compiled: NumPy copies batches, more slowly", COMPILER)
    return Finding(OK, "compiled")


def audio_files() -> Finding:
    """What soundfile reads."""
    import soundfile

    there = soundfile.available_formats()
    opus = "OPUS" in soundfile.available_subtypes("OGG") if "OGG" in there else False
    known = {name: key in there for name, key in FORMATS.items()} | {"Opus": opus}
    able = ", ".join(["WAV", *(name for name, is_there in known.items() if is_there)])
    found = f"soundfile {soundfile.__version__}, {soundfile.__libsndfile_version__}: {able}"
    lacking = [name for name, is_there in known.items() if not is_there]
    if lacking:
        remedy = "pip install --force-reinstall soundfile: its wheel brings libsndfile 1.2"
        return Finding(WARN, f"{found}; not {', '.join(lacking)}", remedy)
    return Finding(OK, found)


def resampling() -> Finding:
    """Soxr, which changes sample rates."""
    import soxr

    return Finding(OK, f"soxr {soxr.__version__}")


def inflating() -> Finding:
    """Igzip, which inflates gzip several times as fast as zlib."""
    import isal.igzip_threaded

    return Finding(OK, f"igzip of isal {isal.__version__}")


def extras() -> Finding:
    """Which optional parts are installed: what is not is no fault."""
    there = {
        name: all(importlib.util.find_spec(module) for module in modules)
        for name, modules in EXTRAS.items()
    }
    lacking = [name for name, is_there in there.items() if not is_there]
    found = ", ".join(name for name, is_there in there.items() if is_there) or "none"
    if lacking:
        more = f"; for more: pip install 'shardwell[{','.join(lacking)}]'"
        return Finding(OK, f"{found}{more}")
    return Finding(OK, found)
