"""Makes the members of an archive addressable and reads them where they lie.

A compressed file is inflated once, into one plain file in the cache named by the hash of the
compressed one; a plain tar is used where it is. Members are never unpacked: a member is an offset
and a size in that file, so no path inside an archive can escape, and any number of workers map it
at once.
"""

from pipeline.archive.members import Members
from pipeline.archive.opening import Opened, at_once, inflated_before, open_source, plain_path
from pipeline.archive.reading import Reader

__all__ = [
    "Members",
    "Opened",
    "Reader",
    "at_once",
    "inflated_before",
    "open_source",
    "plain_path",
]
