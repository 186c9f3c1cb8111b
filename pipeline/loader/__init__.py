"""Sealed dataset → torch ``Dataset``, padded batches, ``DataLoader``, streams."""

from pipeline.loader.batches import make_loader
from pipeline.loader.opening import Dataset, open_dataset
from pipeline.loader.split import Split
from pipeline.loader.streams import stream

__all__ = ["Dataset", "Split", "make_loader", "open_dataset", "stream"]
