"""Sealed dataset → one self-contained page that shows what is wrong with it, and plots beside."""

from pipeline.report.run import NAME, report

__all__ = ["NAME", "report"]
