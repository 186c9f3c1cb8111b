"""Archives: inflated once, indexed, read in place; damage is found."""

import bz2
import contextlib
import errno
import gzip
import io
import os
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.archive import Opened, Reader, open_source, plain_path
from pipeline.archive.inflating import chunks, compression
from pipeline.archive.tar import Scan
from pipeline.errors import ArchiveError, SourceError
from pipeline.records import Ref

MEMBERS = {
    "./a.txt": b"alpha",
    "b/" + "long" * 40 + ".bin": os.urandom(3000),
    "b/empty": b"",
    "ünïcödé.txt": b"umlauts",
}
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def tar_bytes(form: int = tarfile.PAX_FORMAT, members: dict[str, bytes] | None = None) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, data in (members or MEMBERS).items():
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
    else:
        assert opened.path == plain_path(file, "ab" * 32, cache)
        kept = {p.name for p in (cache / "inflated").glob("[!.]*")}
        assert kept == {f"{'ab' * 8}.plain", f"{'ab' * 8}.index"}


def test_an_archive_is_inflated_once(tmp_path: Path) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(gzip.compress(tar_bytes()))
    ticks: list[int] = []
    first = open_source("main", file, "ab" * 32, tmp_path, ticks.append)
    assert sum(ticks) == file.stat().st_size
    stamp = first.path.stat().st_mtime_ns
    again = open_source("main", file, "ab" * 32, tmp_path, ticks.append)
    assert again.path.stat().st_mtime_ns == stamp


def test_two_that_open_an_archive_share_one_inflation(
    tmp_path: Path, one_waits: threading.Event
) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(gzip.compress(tar_bytes()))
    inflated: list[int] = []

    def tick(done: int) -> None:
        inflated.append(done)
        assert one_waits.wait(5)

    def run() -> Opened:
        return open_source("main", file, "ab" * 32, tmp_path, tick)

    with ThreadPoolExecutor(2) as pool:
        first, second = (pool.submit(run) for _ in range(2))
        assert dict(first.result().members) == dict(second.result().members)
    assert sum(inflated) == file.stat().st_size


def test_what_a_killed_inflation_left_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(gzip.compress(tar_bytes()))
    left = tmp_path / "inflated" / f".{'ab' * 8}.plain.99.part"
    left.parent.mkdir()
    left.write_bytes(b"half")
    open_source("main", file, "ab" * 32, tmp_path, ignore)
    assert not left.exists()


def test_a_single_compressed_file_has_no_members(tmp_path: Path) -> None:
    file = tmp_path / "x.gz"
    file.write_bytes(gzip.compress(b"idx" * 1000))
    opened = open_source("main", file, "cd" * 32, tmp_path, ignore)
    assert (opened.size, dict(opened.members)) == (3000, {})


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
    (left,) = (tmp_path / "cache" / "inflated").iterdir()
    assert left.suffix == ".lock"


def scanned(data: bytes, size: int = 1 << 20) -> dict[str, tuple[int, int]]:
    scan = Scan()
    for first in range(0, len(data), size):
        scan.feed(data[first : first + size])
    scan.finish()
    return dict(zip(scan.names, zip(scan.offsets, scan.sizes, strict=True), strict=True))


@pytest.mark.parametrize("form", FORMATS)
@given(size=st.integers(1, 5000))
@settings(max_examples=30)
def test_the_scan_finds_what_tarfile_finds(form: str, size: int) -> None:
    """However the chunks cut headers, long names and data."""
    if form == "ustar":
        members = {"a.txt": b"alpha", "p" * 90 + "/" + "n" * 90: b"x" * 1000}
    else:
        members = MEMBERS
    data = tar_bytes(FORMATS[form], members)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        regular = [m for m in tar if m.isreg()]
    expected = {m.name.removeprefix("./"): (m.offset_data, m.size) for m in regular}
    assert scanned(data, size) == expected


def damaged_tar(kind: str) -> bytes:
    """A tar of one member with something wrong."""
    data = bytearray(tar_bytes(tarfile.GNU_FORMAT, {"a": b"x" * 3000, "b": b"y"}))
    header = bytearray(data[:512])
    if kind == "cut in data":
        return bytes(data[:2000])
    if kind == "cut in header":
        return bytes(data[: 512 + 3072 + 100])
    if kind == "second header":
        data[512 + 3072 + 5] ^= 1
        return bytes(data)
    if kind == "negative size":
        header[124:136] = b"\xff" * 12
    elif kind == "size of no digits":
        header[124:136] = b"12345abc\0\0\0\0"
    elif kind == "sparse":
        header[156:157] = b"S"
    elif kind == "huge":
        header[124:136] = b"\x80" + b"\x7f" * 11
    elif kind == "link to nowhere":
        header[156:157], header[157:160], header[124:136] = b"1", b"zzz", b"0" * 12
        data[512:] = bytes(1024)
    elif kind == "huge name":
        header[156:157] = b"L"
        header[124:136] = b"77777777777\0"
    elif kind == "pax":
        header[156:157] = b"x"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(data[512:])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cut in data", "the tar is cut short"),
        ("cut in header", "the tar is cut short"),
        ("second header", "damaged tar header at byte 3584"),
        ("negative size", "negative or absurd size"),
        ("size of no digits", "damaged size"),
        ("sparse", "sparse member at byte 0"),
        ("huge", "the tar is cut short"),
        ("link to nowhere", "a link to zzz, which is not there"),
        ("huge name", "extended tar header of"),
        ("pax", "damaged pax header"),
    ],
)
def test_a_damaged_tar_is_one_clear_line(tmp_path: Path, kind: str, message: str) -> None:
    file = tmp_path / "x.tar"
    file.write_bytes(damaged_tar(kind))
    with pytest.raises(ArchiveError, match=f"^{file}: .*{message}") as caught:
        open_source("main", file, "ab" * 32, tmp_path / "cache", ignore)
    assert "\n" not in str(caught.value)


def test_hard_links_are_members_and_twins_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.tar"
    with tarfile.open(file, "w") as tar:
        info = tarfile.TarInfo("a")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"alpha"))
        link = tarfile.TarInfo("b")
        link.type, link.linkname = tarfile.LNKTYPE, "a"
        tar.addfile(link)
    opened = open_source("main", file, "ab" * 32, tmp_path / "cache", ignore)
    assert opened.members["b"] == opened.members["a"]
    with tarfile.open(file, "a") as tar:
        tar.addfile(info, io.BytesIO(b"omega"))
    with pytest.raises(ArchiveError, match="member a stands twice"):
        open_source("main", file, "cd" * 32, tmp_path / "cache", ignore)


def test_names_of_any_encoding_can_be_stored(tmp_path: Path) -> None:
    file = tmp_path / "x.tar"
    with tarfile.open(file, "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo("clip-\xe9.wav")
        tar.addfile(info, io.BytesIO(b""))
    opened = open_source("main", file, "ab" * 32, tmp_path / "cache", ignore)
    (name,) = opened.members
    assert name == "clip-\\xe9.wav"
    assert name in opened.members
    assert "other" not in opened.members


def test_the_index_is_kept_and_trusted_only_for_its_file(tmp_path: Path) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(gzip.compress(tar_bytes()))

    def opened() -> Opened:
        return open_source("main", file, "ab" * 32, tmp_path / "cache", ignore)

    first = opened()
    expected, content = dict(first.members), first.path.read_bytes()
    os.utime(first.path, (1, 1))  # touched, not changed: found by its hash
    assert dict(opened().members) == expected
    first.path.write_bytes(content[:-512] + b"x" * 512)
    assert dict(opened().members) == expected
    assert first.path.read_bytes() == content
    (tmp_path / "cache" / "inflated" / f"{'ab' * 8}.index").write_bytes(b"not ours")
    assert dict(opened().members) == expected


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


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tar"])
@pytest.mark.parametrize("damaged", [False, True])
def test_nothing_of_a_file_that_is_not_proven_is_kept(
    tmp_path: Path, name: str, damaged: bool
) -> None:
    """Hashing goes on beside inflating: no wrong file may stand under the right one's name."""
    data = tar_bytes()[: 1300 if damaged else None]
    file = tmp_path / name
    file.write_bytes(gzip.compress(data) if name.endswith("gz") else data)

    def refuse() -> None:
        raise SourceError("another file")

    with pytest.raises(SourceError, match="another file"):
        open_source("main", file, "ab" * 32, tmp_path / "cache", ignore, refuse)
    assert all(left.suffix == ".lock" for left in (tmp_path / "cache" / "inflated").iterdir())


@pytest.mark.parametrize(
    "record",
    [b"0 path=x\n", b"1 path=x\n", b"3 =\n", b"99 path=x\n", b"x path=x\n", b"11 pathx=\n"],
)
def test_a_pax_record_of_a_wrong_length_ends_the_scan(tmp_path: Path, record: bytes) -> None:
    """Found by fuzzing: a length of nought made no progress."""
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, len(record)
    file = tmp_path / "x.tar"
    file.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + tar_bytes())
    with pytest.raises(ArchiveError, match="damaged pax header at byte 0"):
        open_source("main", file, "ab" * 32, tmp_path / "cache", ignore)


def test_what_another_process_made_meanwhile_does_not_prove_our_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, cache = tmp_path / "x.tar.gz", tmp_path / "cache"
    file.write_bytes(gzip.compress(tar_bytes()))
    looks: list[str] = []

    @contextlib.contextmanager
    def waited(path: Path) -> Iterator[None]:
        monkeypatch.undo()
        open_source("main", file, "ab" * 32, cache, ignore)  # what was waited for
        looks.append(path.name)
        yield

    def refuse() -> None:
        raise SourceError("another file")

    monkeypatch.setattr("pipeline.archive.opening.alone", waited)
    with pytest.raises(SourceError, match="another file"):
        open_source("main", file, "ab" * 32, cache, ignore, refuse)
    assert len(looks) == 1


def test_what_is_not_on_the_disk_yet_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards may be built of it meanwhile; a disk that lost its bytes is told by name."""
    file, cache, waiting = tmp_path / "x.tar.gz", tmp_path / "cache", []
    file.write_bytes(gzip.compress(tar_bytes()))
    flush = Mock(side_effect=OSError(errno.EIO, "Input/output error"))
    monkeypatch.setattr("os.fsync", flush)
    opened = open_source("main", file, "ab" * 32, cache, ignore, later=waiting.append)
    assert opened.path.read_bytes() == tar_bytes()
    assert not flush.called
    with pytest.raises(OSError, match=f"Input/output error: '{opened.path}'"):
        waiting.pop()()
    assert not list(cache.rglob("*.index"))
    monkeypatch.undo()
    again: list[int] = []
    open_source("main", file, "ab" * 32, cache, again.append)
    assert sum(again) == file.stat().st_size
    assert list(cache.rglob("*.index"))


def test_who_wants_the_same_waits_until_it_is_kept(tmp_path: Path) -> None:
    file, cache, waiting = tmp_path / "x.tar.gz", tmp_path / "cache", []
    file.write_bytes(gzip.compress(tar_bytes()))
    first = open_source("main", file, "ab" * 32, cache, ignore, later=waiting.append)
    with ThreadPoolExecutor(2) as pool:
        ticks: list[int] = []
        second = pool.submit(open_source, "main", file, "ab" * 32, cache, ticks.append)
        with pytest.raises(TimeoutError):
            second.result(timeout=0.3)
        pool.submit(waiting.pop()).result()  # in any thread
        assert dict(second.result(timeout=30).members) == dict(first.members)
    assert not ticks  # nothing was inflated again


@pytest.mark.parametrize("size", [b"-0000001000", b"+0000001000", b"00000_01000", b"00 00001000"])
def test_a_size_is_octal_digits_and_nothing_else(size: bytes) -> None:
    """A negative one would lead back to the same header, for ever."""
    block = bytearray(tarfile.TarInfo("clip.wav").tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = size + b"\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(ArchiveError, match="damaged size in the tar header at byte 0"):
        Scan().feed(bytes(block) + bytes(2048))


@pytest.mark.parametrize("record", [b"size=" + b"9" * 5000, b"size=-5", b"size=1_0"])
def test_a_pax_size_is_a_short_number(record: bytes) -> None:
    length = len(record) + 6
    text = b"%d %s\n" % (length, record)
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(text)
    header = info.tobuf(tarfile.USTAR_FORMAT)
    with pytest.raises(ArchiveError, match="pax header at byte 0"):
        Scan().feed(header + text.ljust(8192, b"\0"))
