"""shardwell: prepare a corpus once, load it at memory speed, publish it.

    from pipeline import make_loader, open_dataset

    data = open_dataset("data/mnist/standard-pixels-0a1b2c3d")
    for batch in make_loader(data["train"], batch_size=64, shuffle=True):
        ...

Importing this package is light: a name below is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.audio import Audio
    from pipeline.errors import ShardwellError
    from pipeline.features import LogMel, Mfcc, Pixels, Spectrogram, Tokens, Vector, Waveform
    from pipeline.features.module import FeatureModule
    from pipeline.loader import make_loader, open_dataset, stream
    from pipeline.prepare import Request, prepare_dataset
    from pipeline.recipe import Corpus, Recipe
    from pipeline.records import Example, Piece, Ref

_ROOMS = {
    "Audio": "audio",
    "Corpus": "recipe",
    "Example": "records",
    "FeatureModule": "features.module",
    "LogMel": "features",
    "Mfcc": "features",
    "Piece": "records",
    "Pixels": "features",
    "Recipe": "recipe",
    "Ref": "records",
    "Request": "prepare",
    "ShardwellError": "errors",
    "Spectrogram": "features",
    "Tokens": "features",
    "Vector": "features",
    "Waveform": "features",
    "make_loader": "loader",
    "open_dataset": "loader",
    "prepare_dataset": "prepare",
    "stream": "loader",
}

__all__ = [
    "Audio",
    "Corpus",
    "Example",
    "FeatureModule",
    "LogMel",
    "Mfcc",
    "Piece",
    "Pixels",
    "Recipe",
    "Ref",
    "Request",
    "ShardwellError",
    "Spectrogram",
    "Tokens",
    "Vector",
    "Waveform",
    "make_loader",
    "open_dataset",
    "prepare_dataset",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module(f"pipeline.{_ROOMS[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
