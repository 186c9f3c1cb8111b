"""What lies in the cache: listed by source, cleaned unless somebody makes, reads or owns it."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import open_dataset
from pipeline.cli import main
from pipeline.cli.cache import FLAGS
from pipeline.contents import KINDS, Item, clean, contents
from pipeline.cores import usable_cores
from pipeline.errors import UsageError
from pipeline.files import lock_of
from pipeline.holding import holding, unheld
from pipeline.prepare import Request, prepare_dataset
from pipeline.remote import bring

Ask = Callable[..., Request]
SHA = "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"  # speech_commands v2
DOWNLOADED = f"{SHA[:16]}-speech_commands_v0.02.tar.gz"


def fill(cache: Path) -> Path:
    """One thing of every kind, and what is nobody's to clean."""
    for name, size in {
        f"downloads/{DOWNLOADED}": 100,
        f"downloads/{'0' * 16}-x.gz.part": 7,
        f"downloads/{'0' * 16}-x.gz.part.json": 3,
        f"downloads/.{DOWNLOADED}.lock": 0,
        "downloads/holiday.jpg": 11,
        f"inflated/{SHA[:16]}.plain": 1000,
        f"inflated/{SHA[:16]}.index": 10,
        f"inflated/.{'1' * 16}.plain.0123abcd.part": 500,
        f"generated/{'2' * 16}-digit_sum_tutorial.txt": 50,
        "generated/you--words-01234567/data/train.parquet": 80,
        f"verified/{'3' * 16}.json": 1,
        f"remote/{'4' * 16}-{'5' * 16}/train-00000-of-00001.arrow": 20,
        "hub/me/mini/mfcc-01234567/train-00000-of-00001.arrow": 30,
        f"streamed/train-00000-of-00002.{'6' * 64}.arrow": 40,
        f"streamed/train-00001-of-00002.{'7' * 64}.arrow": 40,
        "publish/me--mini/mfcc/x.parquet": 60,
        f"scratch/{'8' * 16}/.plan.arrow": 70,
    }.items():
        path = cache / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    return cache


def told(items: list[Item]) -> dict[str, int]:
    return {f"{item.kind} {item.about}": item.bytes for item in items}


def test_everything_is_listed_with_the_source_it_belongs_to(tmp_path: Path) -> None:
    found = contents(fill(tmp_path), {SHA[:16]: "speech_commands v2"})
    assert sum(told(found).values()) == sum(item.bytes for item in found) - 40
    assert told(found) == {
        "downloads speech_commands v2 speech_commands_v0.02.tar.gz": 100,
        "downloads x.gz": 10,
        "inflated speech_commands v2": 1010,
        f"leftovers {'1' * 16}": 500,
        "generated digit_sum_tutorial.txt": 50,
        f"copies {'4' * 16}-{'5' * 16}": 20,
        "copies me/mini/mfcc-01234567": 30,
        "copies shards of streams": 40,
        "leftovers you--words-01234567": 80,
        "leftovers me--mini": 60,
        f"leftovers {'8' * 16}": 70,
    }


def test_cleaning_leaves_what_is_not_ours(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    fill(outside)
    cache = fill(tmp_path / "cache")
    link = cache / "downloads" / f"{'9' * 16}-link.gz"
    link.symlink_to(outside / "downloads" / DOWNLOADED)
    (cache / "generated" / "inner").symlink_to(outside)
    (cache / "remote" / f"{'a' * 16}-{'b' * 16}").symlink_to(outside, target_is_directory=True)
    inner = cache / "remote" / f"{'4' * 16}-{'5' * 16}" / "link"
    inner.symlink_to(outside, target_is_directory=True)
    before = sorted(p for p in outside.rglob("*"))
    items = contents(cache, {})
    assert clean(items) == items
    assert contents(cache, {}) == []
    assert (cache / "downloads" / "holiday.jpg").exists()
    assert link.is_symlink()
    assert sorted(p for p in outside.rglob("*")) == before


def test_a_linked_folder_of_a_cache_is_left_alone(tmp_path: Path) -> None:
    elsewhere = fill(tmp_path / "elsewhere")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "downloads").symlink_to(elsewhere / "downloads")
    assert contents(tmp_path / "cache", {}) == []


def test_a_folder_that_is_no_cache_is_refused(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "Documents").mkdir()
    with pytest.raises(UsageError, match="expected a cache of shardwell, got a folder with Docu"):
        contents(tmp_path, {})
    assert contents(tmp_path / "none", {}) == []


def test_what_is_being_made_or_read_stays(tmp_path: Path) -> None:
    cache = fill(tmp_path)
    items = {item.about: item for item in contents(cache, {})}
    download, copy = (
        items[name] for name in ("speech_commands_v0.02.tar.gz", "me/mini/mfcc-01234567")
    )
    with lock_of(download.made):
        assert clean([download]) == []
    with holding(*download.paths), holding(*copy.paths):
        assert clean([download, copy]) == []
    assert clean([download, copy]) == [download, copy]
    with pytest.raises(FileNotFoundError), holding(*download.paths):
        pass


def test_who_comes_while_it_is_cleaned_is_told(tmp_path: Path) -> None:
    """Opened before it is gone, locked after: what was opened is no longer at that path."""
    path, waiting, said = tmp_path / "x", threading.Event(), []
    path.write_bytes(b"x")

    def read() -> None:
        waiting.set()
        try:
            with holding(path):
                pass
        except FileNotFoundError as error:
            said.append(error.filename)

    with unheld(path) as free:
        assert free
        reader = threading.Thread(target=read)
        reader.start()
        waiting.wait()
        time.sleep(0.1)
        path.unlink()
    reader.join()
    assert said == [str(path)] or said == [path]


def test_a_build_holds_what_it_reads(
    ask_commands: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the moment that shards are made, the inflated archive can't be cleaned."""
    cache, seen = tmp_path / "cache", []
    import pipeline.prepare.run as run

    build = run.build

    def build_and_clean(*given: object) -> object:
        seen.append(clean([i for i in contents(cache, {}) if i.kind == "inflated"]))
        return build(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(run, "build", build_and_clean)
    prepare_dataset(ask_commands(cache=cache))
    assert seen
    assert not any(seen)
    assert len(clean(contents(cache, {}))) == 1


def test_an_open_dataset_holds_its_copy(digits_dataset: Path, tmp_path: Path) -> None:
    url = f"file://{digits_dataset}"
    data = open_dataset(url, cache=tmp_path)
    (item,) = contents(tmp_path, {})
    assert item.about == "digit_sum len-5 tokens"
    assert clean([item]) == []
    train = data["train"]
    del data
    assert clean([item]) == []
    assert len(train[0]["features"])
    del train
    assert clean([item]) == [item]
    assert bring(url, tmp_path).is_dir()


def test_the_command_lists_and_cleans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = fill(tmp_path)
    old = cache / "inflated" / f"{SHA[:16]}.plain"
    then = time.time() - 40 * 86_400
    for name in (old, old.with_suffix(".index")):
        os.utime(name, (then, then))
    assert main(["cache", "--cache", str(cache)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  1.01 kB  40 days ago    speech_commands v2" in lines
    assert "     80 B  today          shards of streams (2)" in lines
    assert lines[-1] == f"  2.01 kB  in all, {cache}"
    ask = ["cache", "clean", "--cache", str(cache), "--older-than", "30"]
    assert main([*ask, "--downloads"]) == 0
    assert capsys.readouterr().out == "      0 B  freed\n"
    assert main([*ask, "--inflated", "--dry-run"]) == 0
    assert capsys.readouterr().out.endswith("  1.01 kB  would be freed\n")
    assert old.exists()
    with holding(old):
        assert main([*ask, "--inflated"]) == 0
    told = capsys.readouterr().out
    assert told == "  1.01 kB  kept, a run is using it: speech_commands v2\n      0 B  freed\n"
    assert main([*ask, "--inflated", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == 1010
    assert not old.exists()
    assert main(["cache", "clean", "--cache", str(cache)]) == 2
    assert "expected --all, or some of --downloads" in capsys.readouterr().err
    assert main(["cache", "clean", "--all", "--cache", str(cache)]) == 0
    assert main(["cache", "--json", "--cache", str(cache)]) == 0
    assert capsys.readouterr().out.endswith("[]\n")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="a system without affinity")
def test_cores_are_those_that_we_may_use() -> None:
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert usable_cores() == len(allowed)


def test_every_kind_has_a_flag() -> None:
    assert list(FLAGS) == list(KINDS)
