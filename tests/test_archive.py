"""Archives: inflated once, indexed, read in place; damage is found."""

import bz2
import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from pipeline.archive import Reader, compression, index, inflate, open_source, plain_path
from pipeline.errors import ArchiveError
from pipeline.records import Ref

MEMBERS = {
    "./a.txt": b"alpha",
    "b/" + "long" * 40 + ".bin": os.urandom(3000),
    "b/empty": b"",
    "ünïcödé.txt": b"umlauts",
}
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def tar_bytes(form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, data in MEMBERS.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("../escape"), io.BytesIO(b""))
    return file.getvalue()


def ignore(done: int) -> None:
    pass


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
        assert not cache.exists()
    else:
        assert opened.path == plain_path(file, "ab" * 32, cache)
        assert {p.name for p in opened.path.parent.iterdir()} == {
            opened.path.name,
            f"{opened.path.name}.json",
        }


def test_an_archive_is_inflated_once(tmp_path: Path) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(gzip.compress(tar_bytes()))
    ticks: list[int] = []
    first = open_source("main", file, "ab" * 32, tmp_path, ticks.append)
    assert sum(ticks) == file.stat().st_size
    stamp = first.path.stat().st_mtime_ns
    again = open_source("main", file, "ab" * 32, tmp_path, ticks.append)
    assert again.path.stat().st_mtime_ns == stamp


def test_a_single_compressed_file_has_no_members(tmp_path: Path) -> None:
    file = tmp_path / "x.gz"
    file.write_bytes(gzip.compress(b"idx" * 1000))
    opened = open_source("main", file, "cd" * 32, tmp_path, ignore)
    assert (opened.size, opened.members) == (3000, {})


@pytest.mark.parametrize("squeeze", [gzip.compress, bz2.compress], ids=["gzip", "bzip2"])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_archive_leaves_nothing_behind(
    tmp_path: Path, squeeze: object, damage: str
) -> None:
    data = bytearray(squeeze(os.urandom(300_000)))  # type: ignore[operator]
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        data[-5] ^= 0xFF
    file = tmp_path / "x.tar"
    file.write_bytes(data)
    with pytest.raises(ArchiveError, match="can't be inflated, the archive is damaged"):
        open_source("main", file, "ef" * 32, tmp_path / "cache", ignore)
    assert not any((tmp_path / "cache" / "inflated").iterdir())


def test_a_tar_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.tar"
    file.write_bytes(tar_bytes()[:2000])
    with pytest.raises(ArchiveError, match=r"cut short|not a whole tar"):
        index(file)


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
    chunks: list[bytes] = []
    inflate(file, chunks.append, ignore)
    assert b"".join(chunks) == data
