"""A dataset as files for people without a Hub: a folder that is whole or absent."""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import OutputError
from pipeline.files import alone
from pipeline.publish.config import Tick
from pipeline.publish.folder import build_folder, configs_of
from pipeline.publish.proof import check_folder
from pipeline.publish.text import write_text

FORMATS = ("parquet", "webdataset", "text")


def export(folder: Path, form: str, out: Path, splits: Sequence[str], tick: Tick) -> None:
    """Write a sealed dataset to ``out``, which must not exist, and prove what was written.

    ``tick`` is called with the bytes of every shard that is written, and again when it is proven.

    Raises:
        OutputError: ``out`` is there already.
        DatasetError: no sealed dataset, or the folder does not hold it.
        UsageError: the format doesn't fit the dataset.
    """
    if out.exists():
        raise OutputError(f"{out}: is there already; name another --out, or move it away")
    configs = configs_of([folder], splits=splits)
    with whole_or_absent(out) as temporary:
        if form == "text":
            write_text(temporary, configs[0].sealed, configs[0].splits)
        else:
            build_folder(temporary, out.name, configs, form, tick)
            check_folder(temporary, configs, form, tick)


@contextmanager
def whole_or_absent(out: Path) -> Iterator[Path]:
    """A folder to write to, which becomes ``out`` when the block ends without an error."""
    temporary = out.with_name(f".{out.name}.folder")
    with alone(out):
        shutil.rmtree(temporary, ignore_errors=True)  # of a run that was killed
        temporary.mkdir()
        try:
            yield temporary
            temporary.rename(out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
