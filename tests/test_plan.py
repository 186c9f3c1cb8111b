"""Plans: sorted, cut into tasks that cover everything once, named by what is declared."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio import Audio
from pipeline.errors import RecipeError
from pipeline.features import LogMel, Tokens, Waveform
from pipeline.labels import stored_values
from pipeline.plan import (
    LARGEST_SHARD,
    SHARDS,
    SMALLEST_SHARD,
    Plan,
    _cut,
    fingerprint,
    read_rows,
    shard_count,
    write_plan,
)
from pipeline.records import Example, Ref


def examples(n: int, split: str = "train") -> Iterator[Example]:
    for i in range(n):
        refs = (Ref("main", 100 * i, 50, 2, None if i % 2 else 7), Ref("main", 9, 3))
        yield Example(f"k{i}", split, refs[: 1 + i % 2], {"word": f"w{i % 3}", "n": i})


def plan_of(tmp_path: Path, stream: Iterator[Example]) -> Plan:
    labels = {"word": "class", "n": "int"}
    return write_plan(tmp_path / "plan.arrow", stream, labels, Tokens(), None)


def test_rows_come_back_with_their_refs_and_labels(tmp_path: Path) -> None:
    wanted = {e.key: e for e in [*examples(50), *examples(0)]}
    plan = plan_of(tmp_path, examples(50))
    rows = [row for task in plan.tasks for row in read_rows(plan.path, task).examples]
    assert {row.key: row for row in rows} == wanted
    assert plan.rows == {"train": 50}
    assert plan.classes == {"word": ("w0", "w1", "w2")}


def test_whole_numbers_may_be_numpys(tmp_path: Path) -> None:
    kinds = {"word": "class", "n": "int", "x": "float"}
    for number in (int, np.int64, np.uint8):
        given = [map(number, row) for row in [(10, 1, 2), (9, 3, 4)]]
        labels = [dict(zip(kinds, row, strict=True)) for row in given]
        stream = [Example(f"k{i}", "train", (REF,), row) for i, row in enumerate(labels)]
        plan = write_plan(tmp_path / "p", stream, kinds, Tokens(), None)
        assert plan.classes == {"word": ("9", "10")}
        rows = {row.key: row.labels for row in read_rows(plan.path, plan.tasks[0]).examples}
        assert rows == {
            "k0": {"word": 10, "n": 1, "x": 2.0},
            "k1": {"word": 9, "n": 3, "x": 4.0},
        }


def test_the_order_of_the_examples_changes_nothing(tmp_path: Path) -> None:
    plan_of(tmp_path, examples(50))
    first = (tmp_path / "plan.arrow").read_bytes()
    plan_of(tmp_path, iter(reversed(list(examples(50)))))
    assert (tmp_path / "plan.arrow").read_bytes() == first


def test_keys_are_well_mixed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, examples(3000))
    numbers = [
        row.labels["n"] for task in plan.tasks for row in read_rows(plan.path, task).examples
    ]
    correlation = np.corrcoef(numbers, np.arange(3000))[0, 1]
    assert abs(correlation) < 0.1


@given(first=st.integers(0, 100), rows=st.integers(1, 500), nbytes=st.integers(0, 1 << 45))
def test_tasks_cover_every_row_once(first: int, rows: int, nbytes: int) -> None:
    tasks = list(_cut("train", first, first + rows, nbytes))
    covered = [row for task in tasks for row in range(task.first, task.last)]
    assert covered == list(range(first, first + rows))
    sizes = [task.last - task.first for task in tasks]
    assert max(sizes) - min(sizes) <= 1
    assert [t.shard for t in tasks] == [
        f"train-{i:05d}-of-{len(tasks):05d}" for i in range(len(tasks))
    ]


def test_shards_stay_between_their_bounds() -> None:
    assert shard_count(0) == shard_count(SMALLEST_SHARD) == 1
    assert shard_count(SMALLEST_SHARD + 1) == 2
    assert shard_count(SMALLEST_SHARD * SHARDS * 4) == SHARDS
    assert shard_count(LARGEST_SHARD * SHARDS * 4) == SHARDS * 4


def test_sizes_are_estimated_from_bytes(tmp_path: Path) -> None:
    clips = [Example(f"k{i}", "train", (Ref("m", 0, 44 + 32000),), {}) for i in range(10)]
    open_length = Audio(16000)
    plan = write_plan(tmp_path / "p", clips, {}, LogMel.at(16000), open_length)
    assert plan.seconds == pytest.approx(10, rel=0.01)
    assert plan.nbytes == pytest.approx(10 * 101 * 64 * 4, rel=0.02)
    fixed = write_plan(tmp_path / "p", clips, {}, Waveform(16000), Audio(16000, duration=2.0))
    assert fixed.nbytes == 10 * 32000 * 2


def test_noise_has_no_class(tmp_path: Path) -> None:
    """Also where a whole batch of the table has none, before and behind those that have."""
    for words in (["go", "yes"], [3, 1]):
        noise = [
            Example(f"n{i}", "noise", (Ref("m", 0, 999, 5, 105),), {"word": None}) for i in (1, 2)
        ]
        spoken = [Example(w, "train", (Ref("m", 0, 9),), {"word": w}) for w in map(str, words)]
        spoken = [replace(e, labels={"word": w}) for e, w in zip(spoken, words, strict=True)]
        for batch in (1, 3, 100):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("pipeline.plan.BATCH", batch)
                stream = [noise[0], *spoken, noise[1]]
                plan = write_plan(tmp_path / "p", stream, {"word": "class"}, Tokens(), Audio(16000))
            assert plan.classes == {"word": tuple(map(str, sorted(words)))}
            assert plan.rows == {"train": 2, "noise": 2}
            assert [t.shard for t in plan.tasks] == [f"{s}-00000-of-00001" for s in plan.rows]
            (_, task) = plan.tasks
            assert {row.key: row for row in read_rows(plan.path, task).examples} == {
                e.key: e for e in noise
            }
    assert stored_values("class", ["yes", None, "go"], ("go", "yes")) == [1, -1, 0]
    bad = Example("a", "train", (REF,), {"word": None, "n": 1})
    with pytest.raises(RecipeError, match="example a: label word: expected int, got None"):
        plan_of(tmp_path, iter([bad]))


REF = Ref("main", 0, 1)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        ([], "found no example at all"),
        ([*examples(3), *examples(1)], "example k0: its key stands more than once"),
        ([Example("a", "train", (), {})], "example a: expected at least one ref"),
        (
            [Example("a", "train", (REF,), {"word": "x", "n": 1.5})],
            "label n: expected int, got 1.5",
        ),
        (
            [*examples(2), Example("a", "train", (REF,), {"word": 3, "n": 1})],
            "label word: expected str, got 3",
        ),
        (
            [Example("a", "train", (REF,), {"word": 0.5, "n": 1})],
            r"label word: expected int, got 0.5 \(a class is a text or a whole number\)",
        ),
        ([Example("a", "train", (REF,), {"word": True, "n": 1})], "expected int, got True"),
        ([Example("a", "train", (REF,), {"word": "x", "n": np.bool_(True)})], "label n: expected"),
        (
            [Example("a", "train", (REF,), {"word": "x", "n": np.uint64(1 << 63)})],
            "label n: 9223372036854775808 takes more than 64 bits",
        ),
        ([*examples(3, "dev")], "example k0: split 'dev': expected one of train, validation"),
        ([Example("a", "train", (REF,), {"n": 3})], "example a: the recipe declares a label word"),
    ],
)
def test_examples_that_break_the_rules_are_named(
    tmp_path: Path, stream: list[Example], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        plan_of(tmp_path, iter(stream))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, "x"], "example e2: label c: expected int, got 'x'"),
        (["x", "y", 3], "example e2: label c: expected str, got 3"),
        ([None, None, 1, None, "x"], "example e4: label c: expected int, got 'x'"),
        ([None, "x", None, None, 0], "example e4: label c: expected str, got 0"),
    ],
)
def test_a_class_keeps_its_type_from_batch_to_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int, values: list[object], message: str
) -> None:
    monkeypatch.setattr("pipeline.plan.BATCH", batch)
    stream = [
        Example(f"e{i}", "noise" if value is None else "train", (REF,), {"c": value})
        for i, value in enumerate(values)
    ]
    with pytest.raises(RecipeError, match=message):
        write_plan(tmp_path / "p", stream, {"c": "class"}, Tokens(), None)


def test_fingerprints_hash_declared_values() -> None:
    declared = {"recipe": "x", "features": {"n_mels": 40, "top_db": None}}
    assert fingerprint(declared) == fingerprint(dict(reversed(declared.items())))
    assert fingerprint(declared) == "d7ba7f7e"  # sha256sum of its sorted, compact JSON
    assert fingerprint(declared | {"recipe": "y"}) != fingerprint(declared)
