"""A person's own data: a folder, a file, or a file that names others, hashed once.

A folder's hash is that of the names and hashes of the files that its recipe reads, whatever the
folder is called and wherever it lies. Afterwards a file is trusted by (path, size, modification
time); ``prove`` looks once more when all is built.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.archive import Members
from pipeline.columns import numbers, strings
from pipeline.errors import SourceError, to_mend
from pipeline.fetch.bars import byte_bar
from pipeline.fetch.verified import Verified, check
from pipeline.files import sha256_of, where_allowed, written
from pipeline.manifest import Source

Select = Callable[[Path, Sequence[str]], Iterable[str]]
Stamp = tuple[int, int]  # bytes, modification time in ns
AT_ONCE, THREADS = 256, 4
NOTED = ("name", "bytes", "mtime_ns", "sha256")


def own(source: Source, given: Path, cache: Path, select: Select, progress: bool) -> Verified:
    """The hashed files of a source that is a person's own.

    Args:
        source: what the manifest calls it.
        given: a folder, or a file.
        cache: the cache's root.
        select: ``(given, found)`` → the names of the files to read, in the folder or beside the
            file. ``found`` holds a folder's visible files and, ending in ``/``, folders. If it
            names none for a file, that file itself is read: an archive, say.
        progress: show a bar.

    Raises:
        SourceError: with all that is wrong in the folder.
    """
    if not given.exists():
        raise SourceError(f"{given}: expected your data here, got no such file or folder")
    given = given.resolve()
    if not given.is_dir():
        names = sorted(set(select(given, ())))
        if not names:
            stamps, _ = _stamps(given.parent, [given.name])
            hashed = check(source, given, cache, progress)
            return replace(hashed, prove=partial(_unchanged, given.parent, stamps))
        return _hashed(given.parent, given, names, cache, progress)
    names = sorted(set(select(given, walk(given))))
    if not names:
        raise SourceError(f"{given}: expected files to read in this folder, got none")
    return _hashed(given, given, names, cache, progress)


def walk(root: Path) -> list[str]:
    """The visible files below a folder, by their path in it, and its folders with a ``/`` on end.

    Hidden ones, whose names begin with a dot, are passed over.

    Raises:
        SourceError: with every link that leads out of the folder or to a folder, every entry that
            is neither file nor folder, or can't be looked at, or whose name is not UTF-8.
    """
    names, mistakes, waiting = [], [], [""]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(root / folder))
        except OSError as error:
            mistakes.append(f"{folder}: can't be listed: {error.strerror}")
            continue
        for entry in entries:
            name = folder + entry.name
            wrong = None if entry.name.startswith(".") else _wrong(root, name, entry)
            if wrong:
                mistakes.append(f"{name.encode(errors='backslashreplace').decode()}: {wrong}")
            elif not entry.name.startswith("."):
                is_folder = entry.is_dir(follow_symlinks=False)
                names.append(name + "/" * is_folder)
                waiting += [f"{name}/"] * is_folder
    _complain(root, mistakes)
    return sorted(names)


def _wrong(root: Path, name: str, entry: os.DirEntry[str]) -> str | None:
    """What is wrong with an entry of a folder, if anything is."""
    try:
        name.encode()
        if entry.is_symlink():
            target = Path(entry.path).resolve(strict=True)
            if not target.is_relative_to(root):
                return "a link that leads out of the folder; copy what it leads to"
            if not target.is_file():
                return "a link, and not to a file; copy what it leads to"
        elif not (entry.is_file() or entry.is_dir()):
            return "neither a file nor a folder; move it away"
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    except (OSError, RuntimeError):  # RuntimeError: links in a circle
        return "a link that leads nowhere; remove it"
    return None


def _hashed(root: Path, given: Path, names: Sequence[str], cache: Path, progress: bool) -> Verified:
    """The files of these names in ``root``, each hashed unless it was before."""
    stamps, mistakes = _stamps(root, names)
    note = cache / "verified" / f"{hashlib.sha256(str(given).encode()).hexdigest()[:16]}.arrow"
    known = _known(note)
    digests = {n: known[n][1] for n, stamp in stamps.items() if n in known and known[n][0] == stamp}
    missing = [name for name in stamps if name not in digests]
    total = sum(stamps[name][0] for name in missing)
    with (
        byte_bar(f"hashing {given.name}", total, progress) as bar,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        parts = [missing[i : i + AT_ONCE] for i in range(0, len(missing), AT_ONCE)]
        for found, wrong in pool.map(partial(_digests, root), parts):
            digests |= found
            mistakes += wrong
            bar.update(sum(stamps[name][0] for name in found))
    _complain(root, mistakes)
    if missing:
        with where_allowed():
            _remember(note, stamps, digests)
    listed = json.dumps([[name, digests[name]] for name in names]).encode()
    sizes = np.array([stamps[name][0] for name in names], np.int64)
    return Verified(
        path=root,
        sha256=hashlib.sha256(listed).hexdigest(),
        prove=partial(_unchanged, root, stamps),
        members=Members(strings(names), np.zeros_like(sizes), sizes),
    )


def _stamps(root: Path, names: Iterable[str]) -> tuple[dict[str, Stamp], list[str]]:
    """Name → stamp of the files that are there, and what is wrong with the others."""
    stamps, mistakes = {}, []
    for name in names:
        try:
            found = os.stat(os.path.join(root, name))  # noqa: PTH116, PTH118 (100,000 of them)
        except OSError as error:
            mistakes.append(f"{name}: {error.strerror}")
            continue
        if stat.S_ISREG(found.st_mode):
            stamps[name] = found.st_size, found.st_mtime_ns
        else:
            mistakes.append(f"{name}: expected a file")
    return stamps, mistakes


def _digests(root: Path, names: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Name → sha256 (hex) of the files that can be read, and what is wrong with the others."""
    digests, mistakes = {}, []
    for name in names:
        try:
            digests[name] = sha256_of(root / name)
        except OSError as error:
            mistakes.append(f"{name}: can't be read: {error.strerror}")
    return digests, mistakes


def _unchanged(root: Path, stamps: Mapping[str, Stamp]) -> None:
    """Raise SourceError if a file is not the one that was hashed."""
    now, mistakes = _stamps(root, stamps)
    changed = (name for name, stamp in now.items() if stamp != stamps[name])
    _complain(root, [*mistakes, *(f"{name}: was changed while it was read" for name in changed)])


def _complain(root: Path, mistakes: Sequence[str]) -> None:
    """Raise SourceError if there are mistakes; it names them."""
    if mistakes:
        raise SourceError(to_mend(root, sorted(mistakes)))


def _known(note: Path) -> dict[str, tuple[Stamp, str]]:
    """Name → stamp and sha256 as they were noted; nothing where there is no note, or a bad one."""
    try:
        with pa.memory_map(os.fspath(note)) as mapped:
            table = pa.ipc.open_file(mapped).read_all()
            names, *columns = (table.column(c).to_pylist() for c in NOTED)
            return {n: ((b, t), sha) for n, b, t, sha in zip(names, *columns, strict=True)}
    except (OSError, pa.ArrowException, KeyError, UnicodeDecodeError):
        return {}


def _remember(note: Path, stamps: Mapping[str, Stamp], digests: Mapping[str, str]) -> None:
    columns = [
        strings(list(stamps)),
        numbers([size for size, _ in stamps.values()], "int64"),
        numbers([time for _, time in stamps.values()], "int64"),
        strings([digests[name] for name in stamps]),
    ]
    table = pa.Table.from_arrays(columns, names=list(NOTED))
    with (
        written(note) as temporary,
        temporary.open("wb") as out,
        pa.ipc.new_file(out, table.schema) as writer,
    ):
        writer.write_table(table)
