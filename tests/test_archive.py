"""Archives are read in place, whatever packs them."""

import bz2
import gzip
import os
from pathlib import Path

import pytest

from pipeline.archive import Reader, open_source, plain_path
from pipeline.archive.inflating import chunks, compression
from pipeline.errors import ArchiveError
from pipeline.records import Ref
from tests.tars import FORMATS, MEMBERS, ignore, tar_bytes


@pytest.mark.parametrize("form", ["gnu", "pax"])
@pytest.mark.parametrize("packed", ["plain", "gzip", "bzip2"])
def test_members_are_read_in_place(tmp_path: Path, form: str, packed: str) -> None:
    data = tar_bytes(FORMATS[form])
    squeeze = {"plain": bytes, "gzip": gzip.compress, "bzip2": bz2.compress}[packed]
    file = tmp_path / "x.tar.packed"
    file.write_bytes(squeeze(data))
    cache = tmp_path / "cache"
    opened = open_source("main", file, "ab" * 32, cache, ignore)
    assert set(opened.members) == {n.removeprefix("./") for n in MEMBERS} | {"../escape"}
    reader = Reader({"main": opened.path})
    for name, content in MEMBERS.items():
        place = opened.members[name.removeprefix("./")]
        assert bytes(reader.piece(Ref("main", *place)).data) == content
    if packed == "plain":
        assert opened.path == file
    else:
        assert opened.path == plain_path(file, "ab" * 32, cache)
        kept = {p.name for p in (cache / "inflated").glob("[!.]*")}
        assert kept == {f"{'ab' * 8}.plain", f"{'ab' * 8}.index"}


def test_a_single_compressed_file_has_no_members(tmp_path: Path) -> None:
    file = tmp_path / "x.gz"
    file.write_bytes(gzip.compress(b"idx" * 1000))
    opened = open_source("main", file, "cd" * 32, tmp_path, ignore)
    assert (opened.size, dict(opened.members)) == (3000, {})


def test_refs_beyond_the_file_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    file.write_bytes(b"12345")
    reader = Reader({"main": file})
    assert bytes(reader.piece(Ref("main", 1, 3)).data) == b"234"
    for ref in (Ref("main", 3, 3), Ref("main", -1, 2), Ref("main", 0, -1)):
        with pytest.raises(ArchiveError, match="were asked for, but the file has 5"):
            reader.piece(ref)
    (tmp_path / "empty").write_bytes(b"")
    assert bytes(Reader({"e": tmp_path / "empty"}).piece(Ref("e", 0, 0)).data) == b""


def test_compression_is_told_by_the_first_bytes(tmp_path: Path) -> None:
    file = tmp_path / "x.tar.gz"  # the name says nothing
    for data, kind in ((b"", None), (b"BZh9", "bzip2"), (b"\x1f\x8b", "gzip"), (b"ab", None)):
        file.write_bytes(data)
        assert compression(file) == kind


def test_inflate_hands_over_every_byte(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    file = tmp_path / "x.gz"
    file.write_bytes(gzip.compress(data[: 2 << 20], 1) + gzip.compress(data[2 << 20 :], 1))
    assert b"".join(chunks(file, ignore)) == data
