"""Sealed dataset → Parquet, WebDataset or text, card, Hub; and back (``pull``)."""
