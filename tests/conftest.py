"""Miniature corpora with the true layout, made by code, and the datasets prepared from them."""

import hashlib
import importlib.util
import logging
import os
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

from pipeline import importing
from pipeline.loader import Dataset, open_dataset
from pipeline.prepare import Request, prepare_dataset
from tests.clips import CLASSES, write_folder
from tests.cluster import Cluster, make_bucket, started_cluster, started_store
from tests.hub import Hub, Repo, running_hub
from tests.hub_client import Client
from tests.hub_words import REPO
from tests.servers import Server, serving
from tests.stores import counted_store
from tests.streams import write_numbered

ROOT = Path(__file__).parent.parent
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell began the tests in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)  # children take this over
hypothesis.settings.register_profile("patient", deadline=None)  # a busy machine fails no test
hypothesis.settings.load_profile("patient")
WORDS = ("down", "go", "yes")


def real_data() -> Path:
    """Where the real recordings lie, if they are there."""
    return Path(os.environ.get("SHARDWELL_REAL_DATA", ROOT.parent / "shared" / "data")).resolve()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on real recordings skip where there are none."""
    if not real_data().is_dir():
        for item in items:
            if "real" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no real data beside the project"))


def recipe_module(name: str) -> ModuleType:
    """A recipe's file as a module, for the functions beside its RECIPE."""
    spec = importlib.util.spec_from_file_location(f"test_{name}", ROOT / "recipes" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def write_manifest(
    path: Path,
    name: str,
    files: Mapping[str, Path],
    splits: Mapping[str, int | str],
    params: str = "",
    urls: Mapping[str, list[str]] | None = None,
    roles: Mapping[str, str] | None = None,
) -> Path:
    """A manifest with one protocol, ``mini``, for files at hand."""
    lines = [
        f'name = "{name}"',
        'title = "A miniature"',
        'licence = "CC0-1.0"',
        'homepage = "https://example.org"',
        'citation = "Nobody, 2026."',
    ]
    for source, file in files.items():
        data = file.read_bytes()
        lines += [
            f"[sources.{source}]",
            f'file = "{file.name}"',
            f"bytes = {len(data)}",
            f'sha256 = "{hashlib.sha256(data).hexdigest()}"',
            f"urls = {(urls or {}).get(source, [])!r}",
        ]
    lines += ["[protocols.mini]", 'about = "All there is."', params]
    lines += [f'sources.{role} = "{s}"' for role, s in (roles or {s: s for s in files}).items()]
    counts = ", ".join(f"{s} = {n!r}" for s, n in splits.items())
    lines.append(f"splits = {{ {counts} }}")
    path.write_text("\n".join(lines).replace("'", '"') + "\n")
    return path


@pytest.fixture(scope="session")
def commands_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """15 spoken words in the layout of Speech Commands: 9 train, 3 validation, 3 test."""
    path = tmp_path_factory.mktemp("commands") / "mini_commands.tar.gz"
    module = recipe_module("synthetic_commands")
    module.write_commands(path, words=WORDS, speakers=5, takes=1, seed=3)
    return path


@pytest.fixture(scope="session")
def phrases_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 spoken phrases in the layout of LJSpeech."""
    path = tmp_path_factory.mktemp("phrases") / "mini_phrases.tar.bz2"
    recipe_module("synthetic_commands").write_phrases(path, clips=12, seed=3)
    return path


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of the whole test run, so that each archive is inflated once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    """A user of an empty Hub on loopback."""
    with running_hub() as hub:
        yield Client(hub, tmp_path)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub with an empty dataset, which the library in this process takes for the only one."""
    from huggingface_hub import HfApi

    with running_hub() as running:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(
            "pipeline.hub_files.client",
            lambda endpoint: HfApi(endpoint=running.endpoint, token=False),
        )
        running.repos[REPO] = Repo("dataset", False)
        running.repos[REPO].commit({}, "main")
        yield running


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on loopback, and a client that takes small pieces and does not wait long."""
    monkeypatch.setattr("pipeline.fetch.download.WAITS", (0.01, 0.01, 0.01))
    monkeypatch.setattr("pipeline.fetch.server.TIMEOUT", (5, 0.5))
    monkeypatch.setattr("pipeline.fetch.receiving.PIECE", 1000)
    with serving() as running:
        yield running


@pytest.fixture
def one_waits() -> Iterator[threading.Event]:
    """Set as soon as somebody stands at a lock that another one holds."""
    event = threading.Event()

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "another process is at work on it" in record.getMessage():
                event.set()

    heard, logger = Heard(), logging.getLogger("pipeline.files")
    logger.addHandler(heard)
    yield event
    logger.removeHandler(heard)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Dask scheduler with two workers, over TCP."""
    with started_cluster(tmp_path_factory.mktemp("cluster"), workers=2) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """The endpoint of a store that speaks S3."""
    with started_store() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new S3 bucket, credentials and endpoint in the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    return make_bucket(f"bucket-{secrets.token_hex(4)}")


Ask = Callable[..., Request]


@pytest.fixture
def ask_commands(commands_archive: Path, cache: Path, tmp_path: Path) -> Ask:
    """``ask(**changes)`` → a request for the miniature Speech Commands, serial, into tmp_path."""
    manifest = write_manifest(
        tmp_path / "commands.toml",
        "speech_commands",
        {"v2": commands_archive},
        {"train": 9, "validation": 3, "test": 3},
        params="params.words = []",
        roles={"main": "v2"},
    )
    return _asker(
        recipe="speech_commands",
        manifest=manifest,
        sources={"v2": commands_archive},
        out=tmp_path / "data",
        cache=cache,
    )


@pytest.fixture
def ask_phrases(phrases_archive: Path, cache: Path, tmp_path: Path) -> Ask:
    """``ask(**changes)`` → a request for the miniature LJSpeech, serial, into tmp_path."""
    manifest = write_manifest(
        tmp_path / "phrases.toml",
        "ljspeech",
        {"archive": phrases_archive},
        {"train": 6, "validation": 2, "test": 4},
        params="params = { validation = 2, test = 4 }",
    )
    return _asker(
        recipe="ljspeech",
        manifest=manifest,
        sources={"archive": phrases_archive},
        out=tmp_path / "data",
        cache=cache,
    )


@pytest.fixture
def waves_and_noise(ask_commands: Ask) -> Dataset:
    """The miniature Speech Commands as waveforms, the noise in pieces, all of 0.6 s."""
    request = ask_commands(features="waveform", audio="duration=0.6")
    return open_dataset(prepare_dataset(request).folder, key=True)


@pytest.fixture
def phrases_dataset(ask_phrases: Ask) -> Path:
    """The miniature LJSpeech, sealed; the test's own."""
    return prepare_dataset(ask_phrases()).folder


@pytest.fixture
def ask_digits(cache: Path, tmp_path: Path) -> Ask:
    """``ask(**changes)`` → a request for digit_sum, serial, into tmp_path."""
    return _asker(recipe="digit_sum", out=tmp_path / "data", cache=cache)


def _asker(**fixed: object) -> Ask:
    def ask(**changes: object) -> Request:
        return Request(**({"engine": "serial", "offline": True} | fixed | changes))  # type: ignore[arg-type]

    return ask


@pytest.fixture(scope="session")
def digits_dataset(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """digit_sum len-5, sealed; read only."""
    out = tmp_path_factory.mktemp("digits")
    return prepare_dataset(Request("digit_sum", out=out, cache=cache, engine="serial")).folder


@pytest.fixture
def own_folder(tmp_path: Path) -> Path:
    """20 recordings of a person's own, in three class folders."""
    return write_folder(tmp_path / "words", CLASSES)


@pytest.fixture(scope="session")
def numbered_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """200 examples in 13 shards; row n holds n; read only."""
    return write_numbered(tmp_path_factory.mktemp("numbered") / "data")


@pytest.fixture
def counted(numbered_dataset: Path) -> Iterator[str]:
    """The URL of a copy of it, in a store that notes what is fetched."""
    with counted_store(numbered_dataset) as url:
        yield url


@pytest.fixture(scope="session")
def torchaudio() -> ModuleType:
    """torchaudio, importable without CUDA."""
    return importing.torchaudio()
