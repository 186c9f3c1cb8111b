"""Brings a manifest's sources to disk, verified.

Every file is checked against its pinned size and sha256, also one that was already there. A file
once verified is remembered by path, size and modification time, so that it is not hashed at every
run. Layout of the cache:

    downloads/<16 hex of sha256>-<file>            verified downloads
    downloads/<16 hex of sha256>-<file>.part       the begin of a download that was interrupted,
    downloads/<16 hex of sha256>-<file>.part.json  and the version of the file that it belongs to
    downloads/<16 hex of sha256>-<file>.bad        a wrong file, for a person to look at
    generated/<16 hex of parameters>-<file>        files that recipes make
    verified/<16 hex of path>.json                 what was hashed when
    verified/<16 hex of path>.arrow                the same of the files of a person's own folder

Beside a file lies its lock, ``.<file>.lock``: two processes share one download.
"""

from pipeline.fetch.bars import byte_bar, quiet
from pipeline.fetch.local import own
from pipeline.fetch.sources import at_hand, fetch, generate, generated_path, still_missing
from pipeline.fetch.verified import Verified, check

__all__ = [
    "Verified",
    "at_hand",
    "byte_bar",
    "check",
    "fetch",
    "generate",
    "generated_path",
    "own",
    "quiet",
    "still_missing",
]
