"""``report``: from a sealed dataset to a folder with a page and plots."""

from collections.abc import Callable
from pathlib import Path

from pipeline.dataset import open_sealed
from pipeline.errors import UsageError
from pipeline.files import written
from pipeline.report.page import page
from pipeline.report.plots import plot
from pipeline.report.problems import Judged
from pipeline.report.strange import strange
from pipeline.report.survey import survey
from pipeline.report.twins import speakers, twins

NAME = "report.html"
SPEAKERS = 12  # who says most


def report(folder: Path, out: Path, tick: Callable[[int], object]) -> Path:
    """Write the report of a sealed dataset into ``out``; the page's path.

    The same dataset gives the same bytes. ``tick`` is called with the bytes of every shard read.

    Raises:
        DatasetError: no sealed dataset, or a damaged one.
        UsageError: the library that draws the plots is missing.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError(
            "report needs matplotlib: install with: pip install 'shardwell[report]'"
        ) from None
    found = survey(open_sealed(folder), tick)
    groups = twins(found)
    judged = Judged(found, strange(found, groups), groups, speakers(found, SPEAKERS))
    html = page(judged)
    plot(out, found)
    with written(out / NAME) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return out / NAME
