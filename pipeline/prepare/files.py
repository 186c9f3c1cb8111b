"""The files of a request's sources: brought, generated or a person's own; and opened."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from pipeline.archive import Opened, at_once, open_source
from pipeline.errors import RecipeError, ShardwellError, unknown_name
from pipeline.fetch import Verified, byte_bar, check, fetch, generate, generated_path, own
from pipeline.manifest import Source
from pipeline.prepare.request import Resolved
from pipeline.recipe import Corpus

T = TypeVar("T")


def settled(resolved: Resolved) -> Resolved:
    """The request with parameters that can't move; a recipe may have to ask the network."""
    recipe = resolved.recipe
    if recipe.settle is None:
        return resolved
    settle = partial(recipe.settle, offline=resolved.request.offline, **resolved.params)
    (params,) = in_one_line(recipe.name, "settle", lambda: [settle()])
    return replace(resolved, params=params)


def unpinned_files(resolved: Resolved) -> dict[str, Verified]:
    """Role → file, for the sources that the recipe makes itself, and for a person's own."""
    return {
        role: own_files(resolved, source) if source.own else _generated_file(resolved, source)
        for role, source in resolved.sources.items()
        if source.own or source.generated
    }


def own_files(resolved: Resolved, source: Source) -> Verified:
    """The files of a person's own data that the recipe reads, hashed."""
    recipe = resolved.recipe

    def select(given: Path, found: Sequence[str]) -> Iterable[str]:
        if recipe.files is None:
            return (name for name in found if not name.endswith("/"))
        chosen = partial(recipe.files, given, found, **resolved.params)
        return in_one_line(recipe.name, "files", chosen)

    request = resolved.request
    return own(source, resolved.own(source), resolved.cache, select, request.progress)


def _generated_file(resolved: Resolved, source: Source) -> Verified:
    generators, name = resolved.recipe.generators, str(source.generated)
    if name not in generators:
        raise unknown_name("generator", name, generators)
    key = _source_key(resolved, source)
    make = partial(generators[name], **key["params"])
    return generate(source, resolved.cache, key, make, resolved.request.progress)


def _source_key(resolved: Resolved, source: Source) -> dict[str, Any]:
    """Everything that decides a generated source's bytes."""
    missing = [name for name in source.params if name not in resolved.params]
    if missing:
        raise RecipeError(
            f"source {source.name}: its generator takes {', '.join(missing)}, "
            f"which protocol {resolved.protocol.name} doesn't set"
        )
    return {
        "recipe": resolved.recipe.name,
        "version": resolved.recipe.version,
        "generator": source.generated,
        "params": {name: resolved.params[name] for name in source.params},
    }


def generated_at_hand(resolved: Resolved, source: Source) -> Verified | None:
    """The file of a generated source if it was made before; nothing is made."""
    path = generated_path(source, resolved.cache, _source_key(resolved, source))
    if not path.is_file():
        return None
    return check(source, path, resolved.cache, resolved.request.progress)


def hashes_of(resolved: Resolved, files: Mapping[str, Verified]) -> dict[str, str]:
    """Role → sha256 (hex), of unpinned files at hand and as the manifest pins the others."""
    return {
        role: files[role].sha256 if role in files else str(source.sha256)
        for role, source in resolved.sources.items()
    }


def outside_files(resolved: Resolved, skip: Mapping[str, Verified]) -> dict[str, Verified]:
    """Role → verified file, for the sources from outside."""
    request = resolved.request
    return {
        role: fetch(
            source,
            resolved.cache,
            resolved.given(source),
            request.offline,
            request.progress,
        )
        for role, source in resolved.sources.items()
        if role not in skip
    }


def open_all(
    resolved: Resolved,
    files: Mapping[str, Verified],
    later: Callable[[Callable[[], None]], object] = at_once,
    hold: Callable[[Path], object] = lambda path: None,
) -> dict[str, Opened]:
    """Role → source readable in place, inflated where needed, ``later`` as in ``open_source``.

    ``hold`` is called with each plain file at once: the next may take minutes to inflate. What
    stands in two roles is opened once.
    """
    opened: dict[str, Opened] = {}
    by_hash: dict[str, Opened] = {}
    for role, file in files.items():
        found = by_hash.get(file.sha256) or _open(resolved, role, file, later)
        by_hash[file.sha256] = found
        opened[role] = replace(found, name=resolved.sources[role].name)
        hold(found.path)
    return opened


def _open(
    resolved: Resolved, role: str, file: Verified, later: Callable[[Callable[[], None]], object]
) -> Opened:
    name = resolved.sources[role].name
    if file.members is not None:
        return Opened(name, file.path, int(file.members.sizes.sum()), file.members, loose=True)
    total, progress = file.path.stat().st_size, resolved.request.progress
    with (
        byte_bar(f"opening {file.path.name}", total, progress) as bar,
        ThreadPoolExecutor(1) as pool,
    ):
        prove = pool.submit(file.prove).result
        return open_source(name, file.path, file.sha256, resolved.cache, bar.update, prove, later)


def fitted(resolved: Resolved, opened: Mapping[str, Opened]) -> Resolved:
    """The request with the recipe's labels and hints as the opened data have them."""
    recipe = resolved.recipe
    if recipe.fitted is None:
        return resolved
    fit = partial(recipe.fitted, recipe, Corpus(opened), **resolved.params)
    (recipe,) = in_one_line(recipe.name, "fitted", lambda: [fit()])
    columns = replace(resolved.columns, labels=dict(recipe.labels))
    return replace(resolved, recipe=recipe, columns=columns)


def in_one_line(recipe: str, what: str, found: Callable[[], Iterable[T]]) -> Iterator[T]:
    """What a function of a recipe gives; what its code may raise becomes one line."""
    try:
        yield from found()
    except ShardwellError:
        raise
    except Exception as error:  # whatever a stranger's recipe may raise
        reason = f"{type(error).__name__}: {error}"
        raise RecipeError(f"recipe {recipe}: {what} failed: {reason}") from error
