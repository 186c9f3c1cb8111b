"""Shards: what goes in comes out, any Arrow reader reads them, damage is found."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.columns import view
from pipeline.errors import DatasetError
from pipeline.shard import Columns, read_shard, write_shard

RNG = np.random.default_rng(2)
LABELS = {"word": "class", "n": "int", "level": "float", "text": "text"}


def write(path: Path, columns: Columns, features: list[np.ndarray]) -> dict[str, list[object]]:
    rows = range(len(features))
    labels: dict[str, list[object]] = {
        "word": [i % 3 for i in rows],
        "n": [-i for i in rows],
        "level": [i / 7 for i in rows],
        "text": [f"ünï\n{i}" for i in rows],
    }
    write_shard(path, columns, [f"key-{i}" for i in rows], labels, features)
    return labels


@given(
    lengths=st.lists(st.integers(0, 7), max_size=9),
    bins=st.sampled_from([(), (1,), (5,)]),
    dtype=st.sampled_from(["float32", "float16", "int16", "uint8", "int64"]),
    fixed=st.booleans(),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    bins: tuple[int, ...],
    dtype: str,
    fixed: bool,
) -> None:
    if fixed:
        lengths = [4] * len(lengths)
    features = [RNG.integers(0, 200, (n, *bins)).astype(dtype) for n in lengths]
    path = tmp_path_factory.mktemp("shard") / "train-00000-of-00001.arrow"
    columns = Columns(LABELS, dtype, (4 if fixed else None, *bins))
    labels = write(path, columns, features)
    shard = read_shard(path, columns)
    assert len(shard) == len(features)
    assert shard.keys.to_pylist() == [f"key-{i}" for i in range(len(features))]
    assert {name: column.to_pylist() for name, column in shard.labels.items()} == labels
    for i, feature in enumerate(features):
        assert shard.features(i).dtype == feature.dtype
        np.testing.assert_array_equal(shard.features(i), feature)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("shape", [(None, 5), (6, 5)], ids=["open", "fixed"])
def test_pyarrow_alone_reads_a_shard(tmp_path: Path, shape: tuple[int | None, int]) -> None:
    features = [RNG.random((6, 5), np.float32) for _ in range(3)]
    path = tmp_path / "x.arrow"
    labels = write(path, Columns(LABELS, "float32", shape), features)
    table = pa.ipc.open_file(path).read_all()
    assert table.column_names == ["key", *LABELS, "features"]
    assert table.column("text").to_pylist() == labels["text"]
    np.testing.assert_array_equal(np.array(table.column("features").to_pylist(), "f4"), features)


@pytest.mark.parametrize("shape", [(None, 5), (6, 5), (None,)], ids=["open", "fixed", "tokens"])
def test_datasets_reads_a_shard(tmp_path: Path, shape: tuple[int | None, ...]) -> None:
    import datasets

    inner = tuple(n for n in shape[1:] if n)
    features = [RNG.random((6, *inner), np.float32) for _ in range(3)]
    path = tmp_path / "x.arrow"
    write(path, Columns(LABELS, "float32", shape), features)
    loaded = datasets.load_dataset(
        "arrow", data_files=str(path), split="train", cache_dir=str(tmp_path / "hf")
    )
    assert loaded["text"][:] == [f"ünï\n{i}" for i in range(3)]
    np.testing.assert_array_equal(np.array(loaded["features"][:], "f4"), features)


def test_features_view_the_map(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    columns = Columns({}, "float32", (None, 5))
    write_shard(path, columns, ["a", "b"], {}, [np.ones((3, 5), "f4"), np.ones((2, 5), "f4")])
    before = path.read_bytes()
    shard = read_shard(path, columns)
    first = shard.features(0)
    assert np.shares_memory(first, shard.values)
    first[:] = 7  # a private page of this process: the file stays as it is
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["empty", "cut", "head", "text", "other columns", "missing"])
def test_a_damaged_shard_is_one_clear_line(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.arrow"
    columns = Columns({}, "float32", (None, 5))
    write_shard(path, columns, ["a"], {}, [np.ones((3, 5), "f4")])
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        broken = {
            "empty": b"",
            "cut": data[: len(data) // 2],
            "head": b"\0" * 8 + data[8:],
            "text": b"hello",
            "other columns": data,
        }[damage]
        path.write_bytes(broken)
    wanted = Columns({}, "float32", (None, 4)) if damage == "other columns" else columns
    with pytest.raises(DatasetError) as caught:
        read_shard(path, wanted)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "offsets", [[-1, 2, 3, 5], [0, 4, 3, 5], [0, 2**31 - 1, 3, 5], [0, 2, 3, 6]]
)
def test_offsets_that_lead_elsewhere_are_one_clear_line(tmp_path: Path, offsets: list[int]) -> None:
    path, columns = tmp_path / "x.arrow", Columns({}, "int64", (None,))
    write_shard(path, columns, ["a", "b", "c"], {}, [np.full(n, 7) for n in (2, 1, 2)])
    data, sound = path.read_bytes(), np.array([0, 2, 3, 5], np.int32).tobytes()
    assert data.count(sound) == 1
    path.write_bytes(data.replace(sound, np.array(offsets, np.int32).tobytes()))
    with pytest.raises(DatasetError) as caught:
        read_shard(path, columns)
    assert str(path) in str(caught.value)
    assert "prepare or pull the dataset again" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("numbers", "count", "message"),
    [
        ([0, 1, 2], 3, None),
        ([-1, -1, -1], 0, None),
        ([0, 3, 1], 3, "label word: expected classes below 3, or -1 for none, got 3"),
        ([0, -2, 9], 3, "label word: expected classes below 3, or -1 for none, got -2"),
        ([0, 1, 1 << 40], 3, "got 1099511627776"),
        ([0, 1 << 40, -(1 << 40)], None, None),
        ([], 3, None),
    ],
)
@pytest.mark.parametrize("length", [1, None])
def test_classes_without_a_name_are_one_clear_line(
    tmp_path: Path, numbers: list[int], count: int | None, message: str | None, length: int | None
) -> None:
    classes = {} if count is None else {"word": count}
    path = tmp_path / "x.arrow"
    columns = Columns({"n": "int", "word": "class"}, "float32", (length,), classes)
    keys, features = [f"k{i}" for i in numbers], [np.ones(1, np.float32) for _ in numbers]
    labels = {"n": [-5 for _ in numbers], "word": numbers}
    write_shard(path, columns, keys, labels, features)
    if message is None:
        assert read_shard(path, columns).labels["word"].to_pylist() == numbers
        return
    with pytest.raises(DatasetError, match=message) as caught:
        read_shard(path, columns)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_views_of_slices_start_where_the_slice_starts() -> None:
    array = pa.array([1, 2, 3, 4], pa.int64())
    np.testing.assert_array_equal(view(array.slice(1, 2)), [2, 3])
    assert view(pa.array([], pa.int8())).size == 0
