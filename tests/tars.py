"""Small tars in every format."""

import io
import os
import tarfile

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
