"""Reads and checks ``manifests/*.toml``: what must exist outside, and what a corpus promises.

A manifest pins every outside byte (URLs, size, sha256) and names the protocols, the versioned ways
to use the corpus, each with the number of examples it promises per split. ``load_manifest`` reports
every mistake of a file at once. See ``manifests/speech_commands.toml`` for a complete one.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ManifestError, to_mend, unknown_name

PROMISED = ("train", "validation", "test")
NOISE = "noise"  # recordings to mix in, whose number no protocol promises
SPLITS = (*PROMISED, NOISE)
UNPINNED = "unpinned"
REDISTRIBUTION = ("allowed", "forbidden", "unknown")
Param = str | int | float | bool | list[Any]


@dataclass(frozen=True)
class Source:
    """One outside file, one that a recipe's generator makes, or a person's ``own`` data.

    Own data is a folder or file that whoever prepares it names; nothing of it is pinned. ``bytes``
    and ``sha256`` are ``None`` for it, and for generated files whose bytes depend on the version of
    a tool. ``inflated`` is about how many bytes it inflates to, for estimates alone. ``params``
    names the protocol parameters that the generator takes.
    """

    name: str
    file: str
    bytes: int | None = None
    sha256: str | None = None
    urls: tuple[str, ...] = ()
    generated: str | None = None
    params: tuple[str, ...] = ()
    inflated: int | None = None
    own: bool = False


@dataclass(frozen=True)
class Protocol:
    """A named way to use a corpus: role → source, parameters, promised examples per split.

    A promise of ``None`` is unpinned: nobody has published that count.
    """

    name: str
    about: str
    sources: Mapping[str, str]
    params: Mapping[str, Param]
    splits: Mapping[str, int | None]


@dataclass(frozen=True)
class Manifest:
    """One corpus: where it comes from, its licence, its protocols (the first is the default).

    ``redistribution`` says whether the licence lets anyone pass the data on: allowed, forbidden or
    unknown. ``homepage`` is "" where there is none.
    """

    name: str
    title: str
    licence: str
    redistribution: str
    homepage: str
    citation: str
    languages: tuple[str, ...]
    sources: Mapping[str, Source]
    protocols: Mapping[str, Protocol]

    def protocol(self, name: str | None) -> Protocol:
        """The protocol of that name, by default the manifest's first."""
        if name is None:
            return next(iter(self.protocols.values()))
        if name not in self.protocols:
            raise unknown_name(f"protocol of {self.name}", name, self.protocols)
        return self.protocols[name]


def load_manifest(path: Path) -> Manifest:
    """Read and check one manifest.

    Raises:
        ManifestError: with every mistake of the file, one line each.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(f"{path}: expected a manifest here, got no such file") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ManifestError(f"{path}: not readable as TOML: {error}") from None
    mistakes = list(_mistakes(table))
    if mistakes:
        raise ManifestError(to_mend(path, mistakes))
    return _manifest(table)


def _manifest(table: Mapping[str, Any]) -> Manifest:
    """The checked table as values."""
    sources = {
        name: Source(
            name=name,
            file=entry["file"],
            bytes=entry.get("bytes"),
            sha256=entry.get("sha256"),
            inflated=entry.get("inflated"),
            own=entry.get("own", False),
            urls=tuple(entry.get("urls", ())),
            generated=entry.get("generated"),
            params=tuple(entry.get("params", ())),
        )
        for name, entry in table["sources"].items()
    }
    protocols = {
        name: Protocol(
            name=name,
            about=entry["about"],
            sources=entry["sources"],
            params=entry.get("params", {}),
            splits={s: None if n == UNPINNED else n for s, n in entry["splits"].items()},
        )
        for name, entry in table["protocols"].items()
    }
    texts = {key: table[key].strip() for key in ("name", "title", "licence", "citation")}
    return Manifest(
        **texts,
        redistribution=table.get("redistribution", "unknown"),
        homepage=table.get("homepage", "").strip(),
        languages=tuple(table.get("languages", ())),
        sources=sources,
        protocols=protocols,
    )


# --- the rules: a field is (check, what it must be); a missing "?" field is no mistake ------------

Rule = tuple[Callable[[Any], bool], str]


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(_is_text(v) for v in value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_param(value: Any) -> bool:
    plain = str | int | float | bool
    return isinstance(value, plain) or (
        isinstance(value, list) and all(isinstance(v, plain) for v in value)
    )


def _is_file_name(value: Any) -> bool:
    return _is_text(value) and re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", value) is not None


NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")
TEXT: Rule = (_is_text, "a text")
TEXTS: Rule = (_is_texts, "a list of texts")
TABLE: Rule = (lambda v: isinstance(v, dict) and bool(v), "a table with at least one entry")
FILE_NAME: Rule = (_is_file_name, "a plain file name (letters, digits, . _ + -, no folder)")
URLS: Rule = (
    lambda v: _is_texts(v) and all(u.startswith(("https://", "http://")) for u in v),
    "a list of http(s) URLs",
)
MAY_PASS_ON: Rule = (lambda v: v in REDISTRIBUTION, f"one of {', '.join(REDISTRIBUTION)}")
SHA256: Rule = (
    lambda v: isinstance(v, str) and re.fullmatch(r"[0-9a-f]{64}", v) is not None,
    "64 lower-case hex digits",
)
SPLIT_COUNTS: Rule = (
    lambda v: (
        isinstance(v, dict) and bool(v) and all(_is_count(n) or n == UNPINNED for n in v.values())
    ),
    f'a table of split = count or "{UNPINNED}"',
)

CORPUS_RULES = {
    "name": (lambda v: isinstance(v, str) and NAME.fullmatch(v) is not None, "a lower-case name"),
    "title": TEXT,
    "licence": TEXT,
    "redistribution?": MAY_PASS_ON,
    "homepage?": TEXT,
    "citation": TEXT,
    "languages?": TEXTS,
    "sources": TABLE,
    "protocols": TABLE,
}
SOURCE_RULES = {
    "file": FILE_NAME,
    "bytes?": (_is_count, "a whole number of bytes"),
    "sha256?": SHA256,
    "inflated?": (_is_count, "a whole number of bytes"),
    "urls?": URLS,
    "generated?": TEXT,
    "params?": TEXTS,
    "own?": (lambda v: v is True, "true"),
}
PROTOCOL_RULES = {
    "about": TEXT,
    "sources": (
        lambda v: isinstance(v, dict) and bool(v) and all(_is_text(s) for s in v.values()),
        "a table of role = source",
    ),
    "params?": (
        lambda v: isinstance(v, dict) and all(_is_param(p) for p in v.values()),
        "a table of numbers, texts and lists",
    ),
    "splits": SPLIT_COUNTS,
}


def _broken(where: str, entry: Any, rules: Mapping[str, Rule]) -> Iterator[str]:
    """The mistakes of one table against its rules."""
    if not isinstance(entry, dict):
        yield f"{where}: expected a table, got {entry!r}"
        return
    known = {key.rstrip("?") for key in rules}
    for key in entry:
        if key not in known:
            yield f"{where}{key}: not a known field (known: {', '.join(sorted(known))})"
    for key, (check, expected) in rules.items():
        name = key.rstrip("?")
        if name not in entry:
            if not key.endswith("?"):
                yield f"{where}{name}: missing; expected {expected}"
        elif not check(entry[name]):
            yield f"{where}{name}: expected {expected}, got {entry[name]!r}"


def _mistakes(table: Mapping[str, Any]) -> Iterator[str]:
    """Every mistake of a manifest, in the order of the file's tables."""
    yield from _broken("", table, CORPUS_RULES)
    sources, protocols = table.get("sources"), table.get("protocols")
    for name, entry in sources.items() if isinstance(sources, dict) else ():
        if "/" in name:
            yield f"sources.{name}: expected a name without /"
        yield from _source_mistakes(f"sources.{name}.", entry)
    for name, entry in protocols.items() if isinstance(protocols, dict) else ():
        known = sources if isinstance(sources, dict) else {}
        yield from _protocol_mistakes(name, f"protocols.{name}.", entry, known)


def _source_mistakes(where: str, entry: Any) -> Iterator[str]:
    yield from _broken(where, entry, SOURCE_RULES)
    if not isinstance(entry, dict):
        return
    if "own" in entry:
        for key in ("bytes", "sha256", "urls", "generated", "params"):
            if key in entry:
                yield f"{where}{key}: not for a source that is a person's own"
    elif "generated" not in entry:
        for key in ("bytes", "sha256"):
            if key not in entry:
                yield f"{where}{key}: missing; every file from outside is pinned"


def _protocol_mistakes(
    name: str, where: str, entry: Any, sources: Mapping[str, Any]
) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield f"{where[:-1]}: expected a lower-case name (letters, digits, . _ -)"
    yield from _broken(where, entry, PROTOCOL_RULES)
    if not isinstance(entry, dict):
        return
    roles, splits = entry.get("sources"), entry.get("splits")
    for role, source in roles.items() if isinstance(roles, dict) else ():
        if _is_text(source) and source not in sources:
            known = ", ".join(sorted(sources)) or "none"
            yield f"{where}sources.{role}: no source {source!r} in this manifest (known: {known})"
    for split in splits if isinstance(splits, dict) else ():
        if split not in PROMISED:
            yield f"{where}splits.{split}: expected one of {', '.join(PROMISED)}"
