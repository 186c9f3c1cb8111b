"""Sealed dataset → torch ``Dataset``, padded batches, ``DataLoader``."""

from pipeline.loader.batches import make_loader
from pipeline.loader.split import Dataset, Split, open_dataset

__all__ = ["Dataset", "Split", "make_loader", "open_dataset"]
