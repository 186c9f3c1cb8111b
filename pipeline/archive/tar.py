"""Scans the headers of a tar while its bytes go by: where every regular member lies.

Reads ustar, GNU and pax headers (POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar manual,
"Basic Tar Format"). One pass, no seeking, so that an archive is indexed while it is inflated;
several times faster than ``tarfile``, which makes an object of every member.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pipeline.errors import ArchiveError

BLOCK = 512
REGULAR, HARD_LINK = (b"0", b"\0", b"7"), b"1"
WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # whatever their size says: links, folders …
GNU_NAME, GNU_LINK, PAX, SPARSE = b"L", b"K", b"x", b"S"
LONGEST_NAME = 1 << 20  # of an extended header, in bytes
OCTAL, DECIMAL = re.compile(b"[0-7]*"), re.compile("[0-9]{1,19}")


@dataclass
class Scan:
    """The members seen so far; ``feed`` it every byte in order, then ask for ``members``.

    A first block that is no header is no error: then ``is_tar`` is False, and there are none.
    """

    is_tar: bool = True
    names: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    seen: int = 0
    _next: int = 0  # where the next header begins
    _end: int = 0  # of the last data; the zeros that fill their block may be missing
    _held: bytes = b""  # the begin of a header, or of an extended one, that a chunk cut
    _ended: bool = False
    _name: str | None = None  # from an extended header, for the next member
    _link: str | None = None
    _size: int | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            ArchiveError: a damaged header, a sparse member.
        """
        begin = self.seen - len(self._held)
        self.seen += len(chunk)
        if self._ended:
            return
        data, self._held = self._held + chunk if self._held else chunk, b""
        while not self._ended and self._next < self.seen:
            at = self._next - begin
            needed = self._header(data, at)
            if needed:
                self._held = data[at:]
                return

    def _header(self, data: bytes, at: int) -> bool:
        """Take the header at ``at``; True if more bytes are needed first."""
        block = data[at : at + BLOCK]
        if len(block) < BLOCK:
            return True
        if block.count(0) == BLOCK:
            self._ended = True
            return False
        if not _checksum_holds(block):
            if self._next:
                raise ArchiveError(f"damaged tar header at byte {self._next}")
            self.is_tar, self._ended = False, True
            return False
        kind, size = block[156:157], _number(block[124:136], self._next)
        if kind in (GNU_NAME, GNU_LINK, PAX):
            return self._extended(kind, data, at + BLOCK, size)
        if kind == SPARSE:
            raise ArchiveError(f"sparse member at byte {self._next}: pack the archive without -S")
        size = size if self._size is None else self._size
        name = _plain_name(self._name or _ustar_name(block))
        if kind in REGULAR and not name.endswith("/"):
            self.names.append(name)
            self.offsets.append(self._next + BLOCK)
            self.sizes.append(size)
        if kind == HARD_LINK:
            self.links.append((name, _plain_name(self._link or _text(block[157:257]))))
        if kind in WITHOUT_DATA or (kind == b"\0" and name.endswith("/")):
            size = 0
        self._name = self._link = self._size = None
        self._skip(size)
        return False

    def _extended(self, kind: bytes, data: bytes, at: int, size: int) -> bool:
        """Take an extended header's data, which begin at ``at``; True if more are needed first."""
        if size > LONGEST_NAME:
            raise ArchiveError(f"extended tar header of {size:,} bytes at byte {self._next}")
        if len(data) < at + size:
            return True
        text = data[at : at + size]
        if kind == GNU_NAME:
            self._name = _text(text)
        elif kind == GNU_LINK:
            self._link = _text(text)
        else:
            for key, value in _pax_records(text, self._next):
                if key.startswith("GNU.sparse"):
                    raise ArchiveError(f"sparse member at byte {self._next}: pack it without -S")
                if key == "path":
                    self._name = value
                elif key == "linkpath":
                    self._link = value
                elif key == "size":
                    self._size = _whole(value, self._next)
        self._skip(size)
        return False

    def _skip(self, size: int) -> None:
        self._end = self._next + BLOCK + size
        self._next += BLOCK + -(-size // BLOCK) * BLOCK

    def finish(self) -> None:
        """All bytes were fed: check that nothing is missing, and resolve hard links.

        Raises:
            ArchiveError: the archive ends within a member or header, or a link leads nowhere.
        """
        if not self.is_tar or not self._next:  # no header at all
            self.is_tar = False
            return
        if self._held or self._end > self.seen:
            raise ArchiveError(f"the tar is cut short: {self.seen:,} bytes are not all of it")
        place = {name: i for i, name in enumerate(self.names)} if self.links else {}
        for name, target in self.links:
            if target not in place:
                raise ArchiveError(f"member {name} is a link to {target}, which is not there")
            self.names.append(name)
            self.offsets.append(self.offsets[place[target]])
            self.sizes.append(self.sizes[place[target]])


def _checksum_holds(block: bytes) -> bool:
    """Whether a block is a header: its bytes, the checksum's own as spaces, sum up to it."""
    stored = block[148:156].strip(b" \0")
    sound = OCTAL.fullmatch(stored) and stored
    return bool(sound) and int(stored, 8) == sum(block) - sum(block[148:156]) + 8 * 32


def _number(field: bytes, at: int) -> int:
    """A size: octal digits, or base 256 with the first bit set."""
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise ArchiveError(f"negative or absurd size in the tar header at byte {at}")
        return int.from_bytes(field[1:])
    digits = field.strip(b" \0")
    if not OCTAL.fullmatch(digits):  # int() takes signs and underscores, too
        raise ArchiveError(f"damaged size in the tar header at byte {at}")
    return int(digits or b"0", 8)


def _whole(text: str, at: int) -> int:
    if not DECIMAL.fullmatch(text):
        raise ArchiveError(f"damaged size {text[:40]!r} in the pax header at byte {at}")
    return int(text)


def _pax_records(text: bytes, at: int) -> Iterator[tuple[str, str]]:
    """Records of a length, a space, key=value and a line feed."""
    while text.strip(b"\0"):
        length, space, _ = text.partition(b" ")
        size = int(length) if space and DECIMAL.fullmatch(length.decode("latin-1")) else 0
        key, equals, value = text[len(length) + 1 : size - 1].partition(b"=")
        if not equals or not len(length) + 3 <= size <= len(text):
            raise ArchiveError(f"damaged pax header at byte {at}")
        yield _text(key), _text(value)
        text = text[size:]


def _ustar_name(block: bytes) -> str:
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(raw: bytes) -> str:
    """Bytes to the first NUL as text that can be stored, whatever their encoding."""
    return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _plain_name(name: str) -> str:
    """Without a leading ``./``."""
    while name.startswith("./"):
        name = name[2:]
    return name
