"""Publishing: a folder proven and whole, its card, its configs, or nothing at all."""

import re
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.dataset import Sealed
from pipeline.errors import DatasetError, OutputError, UsageError
from pipeline.publish.card import card
from pipeline.publish.config import Config
from pipeline.publish.export import export
from pipeline.publish.folder import check_datasets, configs_of
from pipeline.shard import Columns, read_shard
from tests.kinds import LABELS, every_kind, shards


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Sealed]:
    folder = tmp_path_factory.mktemp("kinds")
    return {sealed.folder.name: sealed for sealed in every_kind(folder)}


@pytest.mark.parametrize(
    "name", ["log_mel", "float16", "floats", "waveform", "pixels", "vector", "tokens"]
)
def test_export_is_proven_and_whole(name: str, kinds: dict[str, Sealed], tmp_path: Path) -> None:
    """``export`` itself loads the folder with ``load_dataset`` and reads every row back."""
    sealed, ticked = kinds[name], []
    export(sealed.folder, "parquet", tmp_path / "out", (), ticked.append)
    assert sum(ticked) == 2 * sum(info.bytes for info in shards(sealed))
    assert not list(tmp_path.glob(".out.*folder"))
    with pytest.raises(OutputError, match="is there already"):
        export(sealed.folder, "parquet", tmp_path / "out", (), ticked.append)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset's own
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["log_mel", "floats", "waveform", "pixels", "vector", "tokens"])
def test_both_libraries_read_the_tars(name: str, kinds: dict[str, Sealed], tmp_path: Path) -> None:
    import webdataset

    sealed = kinds[name]
    export(sealed.folder, "webdataset", tmp_path / "out", ("train",), lambda done: None)
    tars = sorted(map(str, tmp_path.glob("out/*/*.tar")))
    read = list(webdataset.WebDataset(tars, shardshuffle=False, empty_check=False).decode("l8"))
    keys = [sample["json"]["key"] for sample in read]
    assert keys == [f"a.b/{n:04d}" for n in range(len(read))]
    assert len(read) == sealed.rows("train")
    stored = read_shard(sealed.folder / f"{shards(sealed)[0].shard}.arrow", sealed.columns)
    for ending in {"npy", "png"} & set(read[0]):
        assert read[1][ending].tobytes() == stored.features(1).tobytes()


def test_what_fails_leaves_nothing(
    kinds: dict[str, Sealed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = kinds["log_mel"].folder
    monkeypatch.setattr("pipeline.publish.folder.content_of", lambda rows: "0" * 64)
    with pytest.raises(DatasetError, match="loaded other rows than its shard's"):
        export(folder, "parquet", tmp_path / "out", (), lambda done: None)
    assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]


def test_the_card_tells_what_the_dataset_is(kinds: dict[str, Sealed]) -> None:
    from huggingface_hub import DatasetCard

    configs = configs_of([kinds["log_mel"].folder, kinds["floats"].folder])
    page = card("me/mini", configs, "parquet")
    told = DatasetCard(page).data.to_dict()
    assert told["license"] == "cc0-1.0"
    assert told["task_categories"] == ["audio-classification"]
    assert told["size_categories"] == "n<1K"
    assert [entry["config_name"] for entry in told["configs"]] == ["log_mel", "waveform"]
    assert [entry.get("default") for entry in told["configs"]] == [True, None]
    for part in (
        'load_dataset("me/mini", "log_mel")',
        'open_dataset("hf://datasets/me/mini:log_mel")',
        "pq.read_table",
        "| train | 7 | 2 |",
        "| yes | 2 | 0 |",
        "`n_mels=8`",
        "sha256 `abab",
        "protocol `all`",
        "`n=1`",
        "CC0-1.0",
        "No example was left out",
        "`word` (one of 3 classes), `age` (int)",
        "| split | examples | files | frames |",
    ):
        assert part in page, part


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("CC BY 4.0", {"license": "cc-by-4.0"}),
        ("CC BY-SA 4.0", {"license": "cc-by-sa-4.0"}),
        ("CC0-1.0 (generated)", {"license": "cc0-1.0"}),
        ("unclear: nobody knows", {"license": "unknown"}),
        ("MITRE's own", {"license": "other", "license_name": "mitre-s-own"}),
        ("public domain", {"license": "other", "license_name": "public-domain"}),
    ],
)
def test_licences_have_the_hubs_names(
    said: str, told: dict[str, str], kinds: dict[str, Sealed]
) -> None:
    from huggingface_hub import DatasetCard

    (config,) = configs_of([kinds["tokens"].folder])
    info = {**config.sealed.info, "corpus": {"title": "Mini", "licence": said}}
    changed = Config(config.name, Sealed(**{**vars(config.sealed), "info": info}), config.splits)
    data = DatasetCard(card("me/mini", [changed], "parquet")).data.to_dict()
    assert {name: data[name] for name in data if name.startswith("license")} == told


def test_the_snippets_run(
    kinds: dict[str, Sealed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("log_mel", "pixels", "vector", "tokens", "floats"):
        out = tmp_path / name
        export(kinds[name].folder, "parquet", out, (), lambda done: None)
        page = (out / "README.md").read_text()
        monkeypatch.chdir(out)
        codes = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
        assert len(codes) == 2
        for code in codes:
            where = f'load_dataset("{out}", cache_dir="{tmp_path}"'
            exec(code.replace(f'load_dataset("{name}"', where), {})  # our own page


@pytest.mark.parametrize(
    ("names", "splits", "message"),
    [
        ((), (), "would both be config 'log_mel': name each with --config"),
        (("a",), (), "1 names of configs for 2 datasets"),
        (("a", "../b"), (), "config '../b': expected letters"),
        (("a", "b"), ("dev",), "unknown split"),
    ],
)
def test_configs_must_have_names_of_their_own(
    names: tuple[str, ...], splits: tuple[str, ...], message: str, kinds: dict[str, Sealed]
) -> None:
    with pytest.raises(UsageError, match=message):
        configs_of([kinds["log_mel"].folder] * 2, names, splits)


def test_a_label_may_not_be_called_like_a_published_column(tmp_path: Path) -> None:
    from pipeline.publish.features import check_names

    sealed = next(every_kind(tmp_path))
    check_names(sealed)
    labels = {**LABELS, "num_frames": "int"}
    renamed = Sealed(**{**vars(sealed), "columns": Columns(labels, "float32", (None, 8))})
    with pytest.raises(DatasetError, match="its label 'num_frames' has the name"):
        check_names(renamed)


def test_a_repository_has_one_corpus(kinds: dict[str, Sealed], digits_dataset: Path) -> None:
    with pytest.raises(UsageError, match="digit_sum and mini are several corpora"):
        configs_of([kinds["log_mel"].folder, digits_dataset])


def test_a_damaged_dataset_is_not_published(tmp_path: Path) -> None:
    sealed = next(every_kind(tmp_path))
    path = sealed.folder / f"{shards(sealed)[0].shard}.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="expected sha256"):
        check_datasets(configs_of([sealed.folder]), lambda done: None)


def test_export_on_the_command_line(
    digits_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "text"
    line = ["export", str(digits_dataset), "--format", "text", "--out", str(out)]
    assert main(line) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(out)
    assert sorted(path.name for path in out.iterdir()) == ["eval.txt", "test.txt", "train.txt"]
    assert main(line) == 1
    assert "is there already" in capsys.readouterr().err
    assert main([*line[:-1], str(tmp_path / "x"), "--split", "dev"]) == 2
