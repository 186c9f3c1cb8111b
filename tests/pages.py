"""Runs the commands and snippets of a page, in order, with miniatures in the place of corpora.

A block is run as it stands unless the comment ``<!-- not run: REASON -->`` stands before it.
``<!-- given: CODE -->`` is Python that is run first, for names that a reader has of their own.
Commands of shardwell run in this process: ``prepare`` takes a miniature of the corpus, and what it
makes gets the name that the page says, as do the datasets that the page takes for granted. ``make``
is not run, but must have the targets.
"""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from pipeline.cli import main
from pipeline.features import KINDS
from pipeline.manifest import load_manifest
from pipeline.prepare import Request, prepare_dataset
from pipeline.recipe_files import known_recipes

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(
    r"(?P<comments>(?:<!--(?:(?!-->).)*-->\s*)*)^```(?P<language>sh|python)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
COMMENT = re.compile(r"<!-- (not run|given): ((?:(?!-->).)*?) -->", re.DOTALL)
NAMED = re.compile(rf"data/(\w+)/([\w.-]+?)-({'|'.join(KINDS)})-([0-9a-f]{{8}}|\*)")
CLEVER = re.compile(r"[|<>;&`]|\$\(")  # the shell's, which this is not
UNWATCHED = ("pip", "hf", "dask", "docker", "torchrun", "git", "curl")
# What a miniature can keep of a protocol's numbers: it has some ten clips.
FEWER: dict[str, Mapping[str, Any]] = {
    "ljspeech": {"validation": 2, "test": 4},
    "mnist": {"validation": 5},
}


@dataclass(frozen=True)
class Block:
    """A fenced block: ``unrun`` is why it is not run, "" where it is; ``given`` is Python."""

    language: str
    code: str
    unrun: str
    given: str
    line: int


@dataclass(frozen=True)
class Miniature:
    """A small corpus that stands in for a real one: its manifest, and source → file."""

    manifest: Path
    sources: Mapping[str, Path]

    def used(self, protocol: str | None) -> dict[str, Path]:
        """The sources that a protocol reads, the first one by default."""
        protocols = load_manifest(self.manifest).protocols
        chosen = protocols[protocol or next(iter(protocols))]
        return {name: self.sources[name] for name in chosen.sources.values()}


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that are commands or Python."""
    text, found = page.read_text(encoding="utf-8"), []
    for block in BLOCK.finditer(text):
        said = dict(COMMENT.findall(block["comments"]))
        line = text[: block.start("code")].count("\n") + 1
        given, unrun = said.get("given", ""), said.get("not run", "")
        found.append(Block(block["language"], block["code"], unrun, given, line))
    return found


def miniature(name: str, files: Mapping[str, Path], folder: Path) -> Miniature:
    """The corpus's own manifest with these files as sources, and no promises."""
    table = tomllib.loads(known_recipes()[name].manifest.read_text(encoding="utf-8"))
    lines = [f"{key} = {json.dumps(v)}" for key, v in table.items() if not isinstance(v, dict)]
    for source, file in files.items():
        data = file.read_bytes()
        pins = {"file": file.name, "bytes": len(data), "sha256": sha256(data).hexdigest()}
        lines += [f"[sources.{source}]", *(f"{k} = {json.dumps(v)}" for k, v in pins.items())]
    for protocol, entry in table["protocols"].items():
        if not set(entry["sources"].values()) <= set(files):
            continue
        params = {k: FEWER.get(name, {}).get(k, v) if v else v for k, v in entry["params"].items()}
        told = {"about": entry["about"]} | {f"sources.{k}": v for k, v in entry["sources"].items()}
        told |= {f"params.{k}": v for k, v in params.items()}
        told |= {f"splits.{split}": "unpinned" for split in entry["splits"]}
        lines += [f"[protocols.{protocol}]", *(f"{k} = {json.dumps(v)}" for k, v in told.items())]
    manifest = folder / f"{name}.toml"
    manifest.write_text("\n".join(lines) + "\n")
    return Miniature(manifest, files)


@dataclass(frozen=True)
class Stage:
    """Where pages are run.

    Attributes:
        miniatures: by recipe; others are prepared as they are.
        cache: of all pages together.
        built: where datasets are kept that pages take for granted, prepared once for all pages.
    """

    miniatures: Mapping[str, Miniature]
    cache: Path
    built: Path

    def run(self, page: Path, folder: Path, setenv: Callable[[str, str], None]) -> dict[str, Any]:
        """Run a page in ``folder``, the current one; the names that its Python ends with."""
        text, names = page.read_text(encoding="utf-8"), {"__name__": "__main__"}
        for recipe, protocol, kind, hashed in sorted(set(NAMED.findall(text)), reverse=True):
            self._place(folder, recipe, protocol, kind, hashed)
        for block in blocks(page):
            if block.unrun:
                continue
            try:
                if block.language == "python":
                    where = f"{page.name}, line {block.line}"
                    exec(compile(block.given, f"before {where}", "exec"), names)  # our own page
                    exec(compile(block.code, where, "exec"), names)
                else:
                    for words in command_lines(block.code):
                        self._command(words, folder, setenv)
            except Exception as error:
                error.add_note(f"{page.name}, line {block.line}:\n{block.code}")
                raise
        return names

    def _place(self, folder: Path, recipe: str, protocol: str, kind: str, hashed: str) -> None:
        """Put a dataset where the page says that it is; a ``*`` finds one that has a name."""
        root = folder / "data" / recipe
        if hashed == "*" and any(root.glob(f"{protocol}-{kind}-*")):
            return
        name = f"{recipe}-{protocol}-{kind}"
        if not (self.built / name).exists():
            mini = self.miniatures.get(recipe)
            made = prepare_dataset(
                Request(
                    recipe,
                    protocol,
                    kind,
                    manifest=mini.manifest if mini else None,
                    sources=mini.used(protocol) if mini else {},
                    out=self.built / "all",
                    cache=self.cache,
                    engine="serial",
                )
            )
            shutil.move(made.folder, self.built / name)
        digits = "0" * 8 if hashed == "*" else hashed
        shutil.copytree(self.built / name, root / f"{protocol}-{kind}-{digits}")

    def _command(self, words: list[str], folder: Path, setenv: Callable[[str, str], None]) -> None:
        if words[0] == "export":
            for word in words[1:]:
                setenv(*word.split("=", 1))
        elif words[0] == "make":  # they run for minutes, the tests among them
            targets = (ROOT / "Makefile").read_text()
            assert all(f"\n{word}:" in targets for word in words[1:]), words
        elif words[0] != "shardwell":
            assert words[0] not in UNWATCHED, f"{words[0]}: say why it is not run"
            subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=60)
        elif words[1] == "prepare":
            self._prepare(words[1:], folder)
        else:
            assert run_main(words[1:]) == 0, words

    def _prepare(self, words: list[str], folder: Path) -> None:
        """Prepare the miniature in place of the corpus; its folder takes the name that is there."""
        mini = self.miniatures.get(words[1])
        if mini and "--manifest" not in words:
            given = [part for part in words if "=" in part and part.split("=")[0] in mini.sources]
            words = [word for word in words if word not in ("--source", *given)]
            words += ["--manifest", str(mini.manifest)]
            chosen = words[words.index("--protocol") + 1] if "--protocol" in words else None
            for name, file in mini.used(chosen).items():
                words += ["--source", f"{name}={file}"]
        if "--engine" not in words:
            words += ["--engine", "serial"]
        before = {path.parent for path in folder.rglob("dataset.json")}
        assert run_main([*words, "--cache", str(self.cache)]) == 0, words
        for path in {path.parent for path in folder.rglob("dataset.json")} - before:
            for old in path.parent.glob(f"{path.name[:-8]}*"):
                if old in before:
                    shutil.rmtree(old)
                    path.rename(old)


def run_main(arguments: list[str]) -> int:
    """The exit code of a command, also where argparse ends it."""
    try:
        return main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)


def command_lines(code: str) -> Iterator[list[str]]:
    """The commands of a block as words, names with a ``*`` replaced by what they find."""
    for line in code.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words:
            assert not CLEVER.search(line.partition(" #")[0]), f"too clever for this test: {line}"
            yield [found for word in words for found in (_found(word) if "*" in word else [word])]


def _found(pattern: str) -> list[str]:
    """What the shell would put in the place of a pattern."""
    found = sorted(map(str, Path().glob(pattern)))
    assert found, f"{pattern}: nothing there"
    return found
