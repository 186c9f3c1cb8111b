"""Importing torchaudio, also beside a torch without CUDA."""

import sys
from types import ModuleType


def torchaudio() -> ModuleType:
    """torchaudio; its parts in pure PyTorch are there in any case.

    Its Linux wheel links CUDA's libraries, which a torch for CPUs lacks: the extension, which
    shardwell needs nothing of, is then replaced by a stub.
    """
    try:
        import torchaudio
    except OSError:
        stub = ModuleType("torchaudio._extension")
        stub._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
        stub.fail_if_no_align = lambda function: function  # type: ignore[attr-defined]
        sys.modules[stub.__name__] = stub
        import torchaudio
    return torchaudio  # type: ignore[no-any-return]
