"""What the documents show is true: names, commands, snippets."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.characters import normalise
from pipeline.loader import augment
from pipeline.loader.delivery import Loader
from pipeline.manifest import PROMISED, load_manifest
from pipeline.prepare import prepare_dataset
from pipeline.prepare.request import Request, resolve
from tests.sealed import write_sealed

Ask = Callable[..., Request]
ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def snippets(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), flags=re.DOTALL)


def test_the_readme_names_the_folder_that_mnist_gets() -> None:
    resolved = resolve(Request("mnist"))
    hashes = {role: str(source.sha256) for role, source in resolved.sources.items()}
    name = resolved.name(resolved.declaration(hashes))
    assert f"data/{name}" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert target.startswith("http") or (path.parent / target).exists(), target


def test_the_snippet_of_the_features_runs() -> None:
    (code,) = snippets(ROOT / "docs" / "features.md", "python")
    names: dict[str, object] = {}
    exec(code, names)  # our own document
    assert names["prepared"].shape == (8, 98, 80)  # type: ignore[attr-defined]
    difference = names["on_the_fly"].numpy() - names["prepared"]  # type: ignore[attr-defined]
    assert abs(difference).max() < 1e-3


def test_the_snippets_of_loading_run(tmp_path: Path) -> None:
    """With a dataset at hand in the place of the one that they name, and a model."""
    accelerate = pytest.importorskip("accelerate")
    rows = [np.full((frames, 80), frames, np.float32) for frames in range(100, 160)]
    folder = write_sealed(tmp_path / "phrases", rows, 3, False)
    first, state, accelerated, *_ = snippets(ROOT / "docs" / "loading.md", "python")
    named = re.search(r'"(data/ljspeech/[^"]+)"', first)
    assert named
    first = first.replace(named[1], str(folder)).replace('["text"]', '["word"]')
    first = first.replace('batch["text"]', 'batch["word"]')
    model = torch.nn.Linear(80, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    names = {"model": model, "optimizer": optimizer, "accelerate": accelerate}
    exec(first + state + accelerated, names)  # our own document
    loader: Loader = names["loader"]  # type: ignore[assignment]
    assert loader.state_dict()["epoch"] == 2
    assert {name for name in loader.state_dict() if name in state} == set(loader.state_dict())


def test_the_snippet_of_augmentation_runs(ask_commands: Ask, tmp_path: Path) -> None:
    """On a miniature in the place of the dataset that it names."""
    (code,) = snippets(ROOT / "docs" / "augmentation.md", "python")
    resolved = resolve(Request("speech_commands", features="waveform"))
    hashes = {role: str(source.sha256) for role, source in resolved.sources.items()}
    name = f"data/{resolved.name(resolved.declaration(hashes))}"
    assert name in code
    folder = prepare_dataset(ask_commands(features="waveform")).folder
    names: dict[str, Any] = {}
    exec(code.replace(name, str(folder)), names)  # our own document
    assert names["batch"]["features"].shape[2] == 40
    assert names["batch"]["features"].shape[1] == int(names["batch"]["lengths"].max())
    (held_out,) = names["held_out"]
    assert held_out["features"].shape == (3, 101, 40)


def test_the_snippet_of_tokens_runs(ask_phrases: Ask) -> None:
    (code,) = snippets(ROOT / "docs" / "corpora.md", "python")
    folder = prepare_dataset(ask_phrases()).folder
    names: dict[str, Any] = {}
    exec(code.replace("data/ljspeech/icefall-log_mel-1f2e3d4c", str(folder)), names)  # our own page
    assert names["text"] == normalise(names["batch"]["normalized_text"][0])


def test_the_page_of_corpora_has_every_protocol_with_its_counts() -> None:
    page, of = (ROOT / "docs" / "corpora.md").read_text(), ""
    told: dict[tuple[str, str], list[str]] = {}
    for line in page.splitlines():
        corpus, protocols, *counts = (cell.strip() for cell in (line + "|" * 7).split("|")[1:6])
        of = corpus.strip("`") or of
        told |= {(of, name): counts for name in re.findall(r"`(\S+)`", protocols)}
    for path in (ROOT / "manifests").glob("*.toml"):
        manifest = load_manifest(path)
        for protocol in manifest.protocols.values():
            if not any(protocol.splits.values()):
                continue
            shown = {None: "unpinned"} | {n: f"{n:,}" for n in protocol.splits.values() if n}
            wanted = [shown[protocol.splits[s]] if s in protocol.splits else "–" for s in PROMISED]
            assert told[manifest.name, protocol.name] == wanted, protocol.name


def test_the_documents_list_every_front_end_and_augmentation() -> None:
    from pipeline.features.front_ends import FRONT_ENDS

    features = (ROOT / "docs" / "features.md").read_text()
    assert all(f"`{name}`" in features for name in FRONT_ENDS)
    text = (ROOT / "docs" / "augmentation.md").read_text()
    assert all(f"`{name}(" in text for name in augment.__all__)
