"""Hostile bytes: WAV headers, tars and manifests with anything in them end in one clear line."""

import io
import tarfile
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.archive import Reader, open_source
from pipeline.audio import Audio, load_audio
from pipeline.errors import ArchiveError, ClipError, ManifestError
from pipeline.manifest import load_manifest
from pipeline.records import Piece, Ref
from tests.conftest import ROOT
from tests.test_audio import DATA, FMT, chunk, encode, riff

pytestmark = pytest.mark.slow
# Where, and what bytes are put there: a few changes at a time reach deeper than noise.
CHANGES = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)), max_size=6
)
SOUND = [
    riff(chunk(b"fmt ", FMT), chunk(b"data", DATA * 40)),
    riff(
        chunk(b"LIST", b"odd"), chunk(b"fmt ", FMT), chunk(b"fact", b"1234"), chunk(b"data", DATA)
    ),
    *(
        encode(np.sin(np.arange(400) / 5), 16000, form, subtype)
        for form, subtype in (
            ("WAVEX", "PCM_24"),
            ("WAV", "FLOAT"),
            ("WAV", "PCM_U8"),
            ("FLAC", "PCM_16"),
        )
    ),
]


def changed(data: bytes, changes: list[tuple[int, bytes]], within: int) -> bytes:
    """Other bytes at some places in the first ``within``."""
    damaged = bytearray(data)
    for place, new in changes:
        at = place % min(within, len(damaged))
        damaged[at : at + len(new)] = new
    return bytes(damaged)


def one_line(error: object) -> None:
    assert str(error)
    assert "\n" not in str(error)


@given(data=st.sampled_from(SOUND), changes=CHANGES, cut=st.integers(0, 4000))
@settings(max_examples=1000)
def test_wav_headers(data: bytes, changes: list[tuple[int, bytes]], cut: int) -> None:
    damaged = changed(data, changes, 80)[: cut or None]
    begin = time.monotonic()
    try:
        samples = load_audio([Piece(memoryview(damaged))], Audio(16000, duration=0.1))
        assert samples.shape == (1600,)
        assert np.isfinite(samples).all()
    except ClipError as error:
        one_line(error)
    assert time.monotonic() - begin < 5


def sound_tar(form: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for i in range(6):
            member = tarfile.TarInfo(("deep/" * 40 if i % 2 else "") + f"ü{i}.wav")
            member.size = 700 * i
            tar.addfile(member, io.BytesIO(bytes([i]) * member.size))
        link = tarfile.TarInfo("link.wav")
        link.type, link.linkname = tarfile.LNKTYPE, "ü0.wav"
        tar.addfile(link)
    return out.getvalue()


TARS = [sound_tar(form) for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)]


@given(
    data=st.sampled_from(TARS),
    changes=CHANGES,
    cut=st.integers(0, 20000),
    kept=st.booleans(),
    mended=st.booleans(),
)
@settings(max_examples=200)
def test_tars(
    tmp_path_factory: pytest.TempPathFactory,
    data: bytes,
    changes: list[tuple[int, bytes]],
    cut: int,
    kept: bool,
    mended: bool,
) -> None:
    """Whatever the index says lies within the file, and nothing outside the cache is touched."""
    folder = tmp_path_factory.mktemp("tar")
    file = folder / "x.tar"
    whole = changed(data, changes, len(data))
    file.write_bytes((with_checksums(whole) if mended else whole)[: None if kept else cut])
    begin = time.monotonic()
    try:
        opened = open_source("main", file, "ab" * 32, folder / "cache", lambda done: None)
        reader = Reader({"main": opened.path})
        for name in opened.members:
            offset, size = opened.members[name]
            assert len(reader.piece(Ref("main", offset, size)).data) == size
    except ArchiveError as error:
        one_line(error)
    assert time.monotonic() - begin < 5
    assert {path.name for path in folder.iterdir()} <= {"x.tar", "cache"}


def with_checksums(tar: bytes) -> bytes:
    """Every block that was a header gets the checksum of what it is now."""
    blocks = [bytearray(tar[at : at + 512]) for at in range(0, len(tar), 512)]
    for block in blocks:
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
    return b"".join(blocks)


MANIFESTS = [path.read_bytes() for path in sorted((ROOT / "manifests").glob("*.toml"))]
TOKENS = st.sampled_from(
    [
        b"[",
        b"]",
        b'"',
        b"=",
        b"\n",
        b"-1",
        b"1e400",
        b"nan",
        b"true",
        b"{}",
        b"..",
        b"/",
        b"\0",
        b"\xff",
    ]
)


@given(
    data=st.sampled_from(MANIFESTS),
    changes=st.lists(
        st.tuples(st.integers(0, 1 << 16), TOKENS | st.binary(max_size=4)), max_size=5
    ),
)
@settings(max_examples=200)
def test_manifests(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, changes: list[tuple[int, bytes]]
) -> None:
    """Every mistake is named, each on a line of its own."""
    path = tmp_path_factory.mktemp("manifest") / "x.toml"
    path.write_bytes(changed(data, changes, len(data)))
    try:
        load_manifest(path)
    except ManifestError as error:
        one_line(error.args[0].splitlines()[0])
