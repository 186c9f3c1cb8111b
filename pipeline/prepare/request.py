"""What a person asks for, resolved into values; nothing is fetched or built here."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from pipeline.audio import Audio
from pipeline.dataset import FORMAT
from pipeline.engines import ENGINES, WITH_ADDRESS
from pipeline.errors import FeatureError, UsageError, unknown_name
from pipeline.features import (
    Feature,
    Pixels,
    Tokens,
    Waveform,
    canonical,
    parse,
    parse_options,
    to_dict,
)
from pipeline.files import CACHE
from pipeline.manifest import Manifest, Param, Protocol, Source, load_manifest
from pipeline.plan import LARGEST_SHARD, SHARDS, SMALLEST_SHARD, fingerprint
from pipeline.prepare.params import changed_params, check_params
from pipeline.recipe import Recipe, load_recipe
from pipeline.recipe_files import locate
from pipeline.shard import Columns

MOST_WORKERS = 1024


@dataclass(frozen=True)
class Request:
    """What a person asks for; ``None`` means the recipe's or the manifest's default.

    Attributes:
        recipe: a recipe's name, or the path of its ``.py`` file.
        features: a feature like ``Mfcc.at(16000)``, or as on the command line,
            ``"mfcc:n_mels=40"``.
        audio: an ``Audio``, or the changes to the recipe's own, ``"duration=none"``.
        params: changes to the protocol's, by name, or ``"length=50,k=3"``; lists are joined
            with ``+``.
        manifest: another manifest (a mirror, a subset).
        out: a folder, or any URL that fsspec knows, as ``s3://bucket/prefix`` (a ``str``).
        data: a person's own folder or file, for a recipe that takes such.
        sources: source name → a file already at hand; or own data, where there are several.
        workers: processes of the engine; ``None`` takes one per core.
        address: the scheduler of a running Dask cluster, as ``tcp://host:8786``.
        max_bad: so many bad clips are left out and listed; one more ends the build.
    """

    recipe: str
    protocol: str | None = None
    features: str | Feature | None = None
    audio: str | Audio = ""
    params: str | Mapping[str, Param] = ""
    out: str | Path = "data"
    cache: str | Path = CACHE
    manifest: str | Path | None = None
    data: str | Path | None = None
    sources: Mapping[str, str | Path] = field(default_factory=dict)
    engine: str = "local"
    workers: int | None = None
    address: str | None = None
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

    @property
    def recorded_rate(self) -> int | None:
        """The recordings' rate in Hz; None where any may come."""
        return _recorded_rate(self.recipe)

    def given(self, source: Source) -> Path | None:
        """The file at hand that the request names for a source."""
        path = self.request.sources.get(source.name)
        return None if path is None else Path(path).expanduser()

    def own(self, source: Source) -> Path:
        """The folder or file that the request names for a source that is a person's own.

        Raises:
            UsageError: it names none.
        """
        path = self.request.sources.get(source.name, self.request.data)
        if path is None:
            raise UsageError(
                f"{self.recipe.name} prepares your own data: name it, as in "
                f"shardwell prepare {self.request.recipe} PATH"
            )
        return Path(path).expanduser()

    @property
    def with_noise(self) -> bool:
        """Whether there is a split ``noise``: where a corpus has such, of waveforms alone."""
        return self.recipe.noise is not None and isinstance(self.feature, Waveform)

    def declaration(self, hashes: Mapping[str, str]) -> dict[str, Any]:
        """Everything that decides the dataset's bytes; ``hashes`` is role → sha256 (hex)."""
        recipe = {"name": self.recipe.name, "version": self.recipe.version}
        return {
            "format": FORMAT,
            "recipe": recipe | ({"noise": True} if self.with_noise else {}),
            "protocol": {"name": self.protocol.name, "params": dict(self.params)},
            "sources": dict(sorted(hashes.items())),
            "audio": asdict(self.audio) if self.audio else None,
            "features": to_dict(self.feature),
            "shards": [SMALLEST_SHARD, LARGEST_SHARD, SHARDS],
        }

    def name(self, declaration: Mapping[str, Any]) -> str:
        """``<recipe>/<protocol>-<kind>-<fingerprint>``"""
        own = f"{self.protocol.name}-{self.feature.kind}-{fingerprint(declaration)}"
        return f"{self.recipe.name}/{own}"


def resolve(request: Request) -> Resolved:
    """Look up the recipe, manifest, protocol and features of a request.

    Raises:
        UsageError: an unknown name or an option that doesn't fit.
        ManifestError, RecipeError, FeatureError: what they name is wrong.
    """
    _check_options(request)
    place = locate(request.recipe)
    recipe = load_recipe(place.code)
    manifest = load_manifest(Path(request.manifest or place.manifest))
    if manifest.name != recipe.name:
        raise UsageError(
            f"the manifest is for {manifest.name!r}, but the recipe is {recipe.name!r}"
        )
    protocol = manifest.protocol(request.protocol)
    _check_sources(request, manifest, protocol)
    params = dict(protocol.params) | changed_params(request.params, protocol)
    check_params(recipe, params)
    changed = params != protocol.params
    audio = _audio(request.audio, recipe)
    feature = _feature(request.features, recipe, audio)
    if isinstance(feature, Pixels | Tokens):
        audio = None  # whatever else the recipe's data may be
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
        cache=Path(request.cache).expanduser(),
    )


def _check_options(request: Request) -> None:
    if request.engine not in ENGINES:
        raise unknown_name("engine", request.engine, ENGINES)
    if request.workers is not None and not 1 <= request.workers <= MOST_WORKERS:
        raise UsageError(f"workers={request.workers}: expected 1 to {MOST_WORKERS}")
    if request.address is not None and request.engine not in WITH_ADDRESS:
        raise UsageError(f"--address is for --engine dask, got --engine {request.engine}")
    if request.address is not None and "://" not in request.address:
        raise UsageError(f"address {request.address!r}: expected one like tcp://host:8786")
    if request.max_bad < 0:
        raise UsageError(f"max_bad={request.max_bad}: expected 0 or more")
    if str(request.out).startswith("memory://") and request.engine != "serial":
        raise UsageError(f"{request.out}: is in this process alone; workers need another place")
    scheme, is_url, rest = str(request.out).partition("://")
    if is_url and not (scheme and rest.strip("/")):
        raise UsageError(f"{request.out}: expected a URL like s3://bucket/prefix")
    if request.address is not None and request.workers is not None:
        raise UsageError("--workers is for workers of this machine; those at --address are running")


def _check_sources(request: Request, manifest: Manifest, protocol: Protocol) -> None:
    """Raise UsageError for files of sources that this protocol doesn't read from outside."""
    for name in request.sources:
        if name not in manifest.sources:
            raise unknown_name(f"source of {manifest.name}", name, manifest.sources)
        if name not in protocol.sources.values():
            raise UsageError(
                f"source {name}: protocol {protocol.name} doesn't use it, but "
                f"{', '.join(sorted(set(protocol.sources.values())))}; "
                f"choose another of {', '.join(manifest.protocols)} with --protocol"
            )
        if manifest.sources[name].generated:
            raise UsageError(f"source {name}: {manifest.name} makes it itself; leave --source out")
    own = [name for name in protocol.sources.values() if manifest.sources[name].own]
    if request.data is not None and len(own) != 1:
        raise UsageError(
            f"{request.data}: {manifest.name} takes {len(own) or 'no'} data of your own"
            + (f", name each: --source {own[0]}=PATH" if own else "")
        )
    if request.data is not None and not str(request.data):
        raise UsageError(f"{manifest.name}: expected your own data's path, got nothing")


def _audio(given: str | Audio, recipe: Recipe) -> Audio | None:
    if recipe.audio is None:
        if given:
            raise UsageError(f"audio {given!r}: the data of {recipe.name} is not audio")
        return None
    if isinstance(given, Audio):
        return cast(Audio, canonical(given))
    return replace(recipe.audio, **parse_options(given, Audio, "audio"))


def _feature(given: str | Feature | None, recipe: Recipe, audio: Audio | None) -> Feature:
    if given is None or isinstance(given, str):
        feature = parse(given or recipe.features[0], audio.sample_rate if audio else None)
        if isinstance(feature, Waveform) and "dtype=" not in (given or "") and audio:
            feature = replace(feature, dtype=_waveform_dtype(audio, recipe))
    else:
        feature = cast(Feature, canonical(given))
        rate = getattr(feature, "sample_rate", None)
        if audio and rate not in (None, audio.sample_rate):
            raise FeatureError(
                f"features {feature.kind}: for {rate} Hz, but the audio is {audio.sample_rate} Hz"
            )
    if feature.kind not in recipe.features:
        raise FeatureError(
            f"features {feature.kind}: {recipe.name} gives {', '.join(recipe.features)}"
        )
    return feature


def _waveform_dtype(audio: Audio, recipe: Recipe) -> str:
    """16-bit samples stay so where nothing but their number is changed."""
    as_recorded = audio.sample_rate == _recorded_rate(recipe)
    return "int16" if as_recorded and audio.keeps_samples else "float32"


def _recorded_rate(recipe: Recipe) -> int | None:
    if recipe.foreign:
        return None
    return recipe.recorded or (recipe.audio.sample_rate if recipe.audio else None)
