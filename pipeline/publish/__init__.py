"""Sealed dataset → Parquet, WebDataset or text, card, Hub; and back (``pull``)."""

from pipeline.publish.export import export
from pipeline.publish.pull import pull
from pipeline.publish.run import Publication, publish
from pipeline.publish.upload import Target

__all__ = ["Publication", "Target", "export", "publish", "pull"]
