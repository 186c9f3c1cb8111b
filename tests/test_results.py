"""The table of what is reached: rows of what is at hand, names of what is missing, known rows."""

import dataclasses
import json
from pathlib import Path

from tests.bench.results import SYSTEMS, table

FEW = {"epochs": 1, "options": {"hidden": 4, "channels": 4}}


def test_what_is_missing_is_told_and_what_is_known_is_not_run_again(
    digits_dataset: Path, tmp_path: Path
) -> None:
    (texts,) = (system for system in SYSTEMS if system.title == "CNN-GRU for text")
    small = dataclasses.replace(texts, corpora=("len-5",), given=texts.given | FEW)
    made_here = {"len-5", "len-35", "phrases"}  # of these nothing can be missing
    systems = [small, *(system for system in SYSTEMS if not made_here & {*system.corpora})]
    first, second = (
        list(table(systems, tmp_path / "none", tmp_path / "data", tmp_path / "runs"))
        for _ in range(2)
    )
    assert first == second
    assert first[2].startswith("| CNN-GRU for text | digit sums of length 35 | accuracy 0.")
    assert all("missing from $SHARDWELL_REAL_DATA" in line for line in first[3:])
    assert any("t10k-images-idx3-ubyte.gz, t10k-labels" in line for line in first)
    assert any("LJSpeech-1.1_subset.tar.bz2, ljspeech_metadata_full.csv" in line for line in first)
    (known,) = (tmp_path / "runs").glob("*/result.json")
    known.write_text(json.dumps({"result": "told"}))
    again = list(table(systems[:1], tmp_path / "none", tmp_path / "data", tmp_path / "runs"))
    assert again[2].endswith("| told |")
