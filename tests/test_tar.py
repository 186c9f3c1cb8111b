"""The scan of a tar's headers: it finds what tarfile finds, and refuses what is damaged."""

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.archive import open_source
from pipeline.archive.tar import Scan
from pipeline.errors import ArchiveError
from tests.tars import FORMATS, MEMBERS, ignore, tar_bytes


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


@pytest.mark.parametrize("kind", [b"2", b"3", b"4", b"5", b"6"])
@pytest.mark.parametrize("size", [b"00000010000", b"00077777777"])
def test_what_has_no_data_has_none_whatever_its_size(kind: bytes, size: bytes) -> None:
    """POSIX stores none behind folders and devices; to skip some would lose members."""
    block = bytearray(tarfile.TarInfo("folder").tobuf(tarfile.USTAR_FORMAT))
    block[156:157], block[124:136] = kind, size + b"\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert scanned(bytes(block) + tar_bytes()).keys() == scanned(tar_bytes()).keys()


def test_a_tar_that_ends_within_what_is_no_member_is_cut_short() -> None:
    block = bytearray(tarfile.TarInfo("volume").tobuf(tarfile.USTAR_FORMAT))
    block[156:157], block[124:136] = b"V", b"00000010000\0"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    with pytest.raises(ArchiveError, match="cut short"):
        scanned(bytes(block) + bytes(100))
