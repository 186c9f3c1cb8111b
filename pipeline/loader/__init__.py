"""Sealed dataset → torch ``Dataset``, padded batches, ``DataLoader``."""

from pipeline.loader.batches import make_loader
from pipeline.loader.opening import Dataset, open_dataset
from pipeline.loader.split import Split

__all__ = ["Dataset", "Split", "make_loader", "open_dataset"]
