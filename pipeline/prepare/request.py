"""What a person asks for, resolved into values; nothing is fetched or built here."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline.audio import Audio
from pipeline.engines import ENGINES
from pipeline.errors import FeatureError, OutputError, RecipeError, UsageError, unknown_name
from pipeline.features import Feature, parse, parse_options, to_dict
from pipeline.manifest import Manifest, Param, Protocol, Source, load_manifest
from pipeline.plan import LARGEST_SHARD, SHARDS, SMALLEST_SHARD, fingerprint
from pipeline.recipe import Recipe, load_recipe
from pipeline.recipe_files import locate
from pipeline.shard import Columns

CACHE = Path("~/.cache/shardwell")
FORMAT = 1


@dataclass(frozen=True)
class Request:
    """What a person asks for; ``None`` means the recipe's or the manifest's default.

    Attributes:
        recipe: a recipe's name, or the path of its ``.py`` file.
        features, audio, params: as on the command line: ``"mfcc:n_mels=40"``, ``"duration=none"``,
            ``"length=50,k=3"``; lists in params are joined with ``+``.
        manifest: another manifest (a mirror, a subset).
        sources: source name → a file already at hand.
        workers: processes of the engine; ``None`` takes one per core.
        max_bad: so many bad clips are left out and listed; one more ends the build.
    """

    recipe: str
    protocol: str | None = None
    features: str | None = None
    audio: str = ""
    params: str = ""
    out: Path = Path("data")
    cache: Path = CACHE
    manifest: Path | None = None
    sources: Mapping[str, Path] = field(default_factory=dict)
    engine: str = "local"
    workers: int | None = None
    max_bad: int = 0
    offline: bool = False
    progress: bool = False


@dataclass(frozen=True)
class Resolved:
    """A request with every name looked up and every default filled in.

    ``promised`` is the protocol's count per split; all are ``None`` once its params were changed.
    """

    request: Request
    code: Path
    recipe: Recipe
    manifest: Manifest
    protocol: Protocol
    params: Mapping[str, Param]
    promised: Mapping[str, int | None]
    audio: Audio | None
    feature: Feature
    columns: Columns
    cache: Path

    @property
    def sources(self) -> dict[str, Source]:
        """Role → source, as the protocol wants them."""
        return {role: self.manifest.sources[name] for role, name in self.protocol.sources.items()}

    def declaration(self, hashes: Mapping[str, str]) -> dict[str, Any]:
        """Everything that decides the dataset's bytes; ``hashes`` is role → sha256 (hex)."""
        return {
            "format": FORMAT,
            "recipe": {"name": self.recipe.name, "version": self.recipe.version},
            "protocol": {"name": self.protocol.name, "params": dict(self.params)},
            "sources": dict(sorted(hashes.items())),
            "audio": asdict(self.audio) if self.audio else None,
            "features": to_dict(self.feature),
            "shards": [SMALLEST_SHARD, LARGEST_SHARD, SHARDS],
        }

    def folder(self, declaration: Mapping[str, Any]) -> Path:
        """``<out>/<recipe>/<protocol>-<kind>-<fingerprint>``"""
        name = f"{self.protocol.name}-{self.feature.kind}-{fingerprint(declaration)}"
        return self.request.out / self.recipe.name / name


def resolve(request: Request) -> Resolved:
    """Look up the recipe, manifest, protocol and features of a request.

    Raises:
        UsageError: an unknown name or an option that doesn't fit.
        ManifestError, RecipeError, FeatureError: what they name is wrong.
    """
    if request.engine not in ENGINES:
        raise unknown_name("engine", request.engine, ENGINES)
    if request.workers is not None and request.workers < 1:
        raise UsageError(f"workers={request.workers}: expected at least 1")
    place = locate(request.recipe)
    recipe = load_recipe(place.code)
    manifest = load_manifest(request.manifest or place.manifest)
    if manifest.name != recipe.name:
        raise UsageError(
            f"the manifest is for {manifest.name!r}, but the recipe is {recipe.name!r}"
        )
    for name in request.sources:
        if name not in manifest.sources:
            raise unknown_name(f"source of {manifest.name}", name, manifest.sources)
    protocol = manifest.protocol(request.protocol)
    params = dict(protocol.params) | _params(request.params, protocol)
    changed = params != protocol.params
    audio = _audio(request.audio, recipe)
    feature = _feature(request.features, recipe, audio)
    labels = dict(recipe.labels)
    columns = Columns(labels, feature.dtype, feature.shape(audio.n_samples if audio else None))
    return Resolved(
        request=request,
        code=place.code,
        recipe=recipe,
        manifest=manifest,
        protocol=protocol,
        params=params,
        promised={s: None if changed else n for s, n in protocol.splits.items()},
        audio=audio,
        feature=feature,
        columns=columns,
        cache=request.cache.expanduser(),
    )


def check_folder(folder: Path) -> None:
    """Raise OutputError if the folder can't be this dataset's: something else is there."""
    for place in (folder, *folder.parents):
        if place.exists() and not place.is_dir():
            raise OutputError(f"{place}: expected a directory, got a file; choose another --out")
    if not folder.exists():
        return
    for entry in folder.iterdir():
        if entry.name.startswith(".") or entry.suffix in (".arrow", ".json"):
            continue
        raise OutputError(
            f"{folder}: holds {entry.name}, which is no part of a dataset; "
            "move it away or choose another --out"
        )


def _audio(text: str, recipe: Recipe) -> Audio | None:
    if recipe.audio is None:
        if text:
            raise UsageError(f"audio {text!r}: the data of {recipe.name} is not audio")
        return None
    return replace(recipe.audio, **parse_options(text, Audio, "audio"))


def _feature(text: str | None, recipe: Recipe, audio: Audio | None) -> Feature:
    name = text or recipe.features[0]
    feature = parse(name, audio.sample_rate if audio else None)
    if feature.kind not in recipe.features:
        raise FeatureError(
            f"features {feature.kind}: {recipe.name} gives {', '.join(recipe.features)}"
        )
    return feature


def _params(text: str, protocol: Protocol) -> dict[str, Param]:
    """Read ``key=value,…`` by the types of the protocol's own values."""
    changed: dict[str, Param] = {}
    for item in filter(None, text.split(",")):
        key, _, value = item.partition("=")
        if key not in protocol.params:
            raise unknown_name(f"parameter of protocol {protocol.name}", key, protocol.params)
        own = protocol.params[key]
        try:
            changed[key] = _like(own, value)
        except (ValueError, KeyError):
            raise UsageError(
                f"parameter {key}: expected a {type(own).__name__} like {own!r}, got {value!r}"
            ) from None
    return changed


def _like(own: Param, text: str) -> Param:
    """A text as a value of another value's type."""
    if isinstance(own, bool):
        return {"true": True, "false": False}[text]
    if isinstance(own, list):
        kind = type(own[0]) if own else str
        return [kind(part) for part in text.split("+") if part]
    return type(own)(text)


def source_key(resolved: Resolved, source: Source) -> dict[str, Any]:
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
