"""A person's own table: read by its columns' names, and every mistake of it told at once."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.audio import Audio, decode, load_audio, mono, resample
from pipeline.dataset import open_sealed
from pipeline.errors import BuildError, RecipeError, UsageError
from pipeline.loader.opening import Dataset, open_dataset
from pipeline.manifest import PROMISED
from pipeline.prepare import Request, prepare_dataset
from pipeline.records import Piece
from pipeline.tables import read_table
from tests.clips import BROKEN, recordings


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """20 recordings in ``clips/`` beside the table."""
    folder = tmp_path / "mine" / "clips"
    folder.mkdir(parents=True)
    for name, data in recordings(20):
        (folder / name).write_bytes(data)
    return folder


def ask(table: Path, tmp_path: Path, **changes: object) -> Request:
    places = {"out": tmp_path / "out", "cache": tmp_path / "cache"}
    fixed = {"recipe": "table", "data": table, "engine": "serial", "offline": True} | places
    return Request(**(fixed | changes))  # type: ignore[arg-type]


def write(clips: Path, name: str, header: str, *rows: str) -> Path:
    path = clips.parent / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def names(clips: Path) -> list[str]:
    return sorted(path.name for path in clips.iterdir())


def rows(data: Dataset) -> dict[str, dict[str, object]]:
    """Key → split and labels."""
    return {
        key: {"split": split, **data[split][row]}
        for split in data
        for row, key in enumerate(data[split].column("key"))
    }


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_a_table_of_mixed_recordings_is_prepared(clips: Path, tmp_path: Path, ending: str) -> None:
    for name, data in BROKEN.items():
        (clips / name).write_bytes(data)
    found = [
        {"path": f"clips/{name}", "label": f"<b>{i % 3}</b>", "speaker": f"s{i % 11}"}
        for i, name in enumerate(names(clips))
    ]
    path = clips.parent / f"mine.{ending}"
    if ending == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in found))
    else:
        mark = {"csv": ",", "tsv": "\t"}[ending]
        path.write_text(
            "\n".join(mark.join(row) for row in [found[0], *(r.values() for r in found)])
        )
    request = ask(path, tmp_path, params="shares=2+1+1")
    with pytest.raises(BuildError, match="3 bad clips, 0 allowed"):
        prepare_dataset(request)
    done = prepare_dataset(ask(path, tmp_path, params="shares=2+1+1", max_bad=3))
    assert sum(done.rows.values()) == 20
    sealed = open_sealed(Path(done.folder))
    assert sealed.classes == {"label": ("<b>0</b>", "<b>1</b>", "<b>2</b>")}
    assert sealed.columns.labels == {"label": "class", "speaker": "text"}
    assert sealed.info["hints"] == {"target": "label", "model": "bcresnet"}
    data = open_dataset(done.folder)
    speakers = {split: set(data[split].column("speaker")) for split in data}
    assert set(speakers) == set(PROMISED)
    assert sum(len(of_one) for of_one in speakers.values()) == len(set().union(*speakers.values()))


def test_segments_are_cut_in_seconds_whatever_the_rate(clips: Path, tmp_path: Path) -> None:
    lines = [f"{name},{start},{end}" for name in names(clips) for start, end in SEGMENTS]
    path = write(clips, "cuts.csv", "audio,start,end", *lines)
    asked = ask(path, tmp_path, params="folder=clips,shares=1+0+0", features="waveform")
    data = open_dataset(prepare_dataset(asked).folder)["train"]
    assert len(data) == 20 * len(SEGMENTS)
    for row, key in enumerate(data.column("key")):
        name, _, times = key.partition("#")
        whole = decode((clips / name).read_bytes())
        start, _, end = times.partition("-")
        first = round(float(start or 0) * whole.rate)
        last = round(float(end) * whole.rate) if end else None
        expected = resample(mono(whole.samples)[first:last], whole.rate, 16000)
        np.testing.assert_array_equal(np.asarray(data[row]["features"]), expected)


SEGMENTS = [("0.05", "0.15"), ("", "0.1"), ("0.1", ""), ("", "")]


def test_columns_go_by_usual_names_or_by_those_that_are_stated(clips: Path, tmp_path: Path) -> None:
    some = names(clips)[:4]
    lines = [
        f'{n}\tsays "hi" {i}\twho{i}\t{s}\tx{i}\tup'
        for i, (n, s) in enumerate(zip(some, ("train", "dev", "Test", "train"), strict=True))
    ]
    path = write(clips, "cv.tsv", "path\tsentence\tclient_id\tset\tage\tup_votes", *lines)
    with pytest.raises(
        RecipeError, match=r"line 1: columns set, age, up_votes: not used; keep them"
    ):
        prepare_dataset(ask(path, tmp_path))
    done = prepare_dataset(ask(path, tmp_path, params="split=set,keep=age,leave=all,folder=clips"))
    found = rows(open_dataset(done.folder))
    assert found[some[0]]["text"] == 'says "hi" 0'
    assert [found[name]["split"] for name in some] == ["train", "validation", "test", "train"]
    assert found[some[1]]["age"] == "x1"
    assert open_sealed(Path(done.folder)).info["hints"]["target"] == "text"


def test_every_mistake_of_a_table_is_told_with_its_line(clips: Path, tmp_path: Path) -> None:
    good = "clips/clip00.wav"  # 0.3 s
    lines = [
        "audio,label,split,start,end,wrong",
        f"{good},ja,train,0,0.2,",
        f"{good},ja,train,0,0.2,",
        "clips/none.wav,ja,train,,,",
        f"{good},,test,,,",
        f"{good},nein,nowhere,0.1,,",
        f"{good},nein,test,0.2,0.1,",
        f"{good},nein,test,0,0.4,",
        f"{good},nein,test,x,0.4,",
        f"{good},nein",
        ",nein,test,nan,,",
        "\udce9t\udce9,nein,test,,,",
    ]
    path = clips.parent / "bad.csv"
    path.write_bytes("\n".join(lines).encode(errors="surrogateescape"))
    with pytest.raises(RecipeError) as caught:
        prepare_dataset(ask(path, tmp_path))
    told = str(caught.value).splitlines()
    assert told[0] == f"{path}: 13 mistakes to mend"
    expected = [
        "line 1: columns wrong: not used; keep them as texts with --params keep=wrong, or leave",
        "line 3: the key clips/clip00.wav#0-0.2 stands in line 2, too",
        f"line 4: no file {clips.parent}/clips/none.wav",
        "line 5: column label is empty",
        "line 6: split nowhere: expected train, validation or test",
        "line 7: a segment from 0.2 to 0.1 s: expected 0 or more, and an end behind its start",
        "line 8: 0.4 s lies beyond clips/clip00.wav, which lasts 0.300 s",
        "line 9: start x: expected seconds, as 1.25",
        "line 10: 2 fields, but the header has 6",
        "line 11: a segment from nan to inf s: expected 0 or more",
        "line 11: column audio is empty",
        "line 12: no file ",
        "line 12: not UTF-8 (invalid continuation byte at byte 0): ",
    ]
    for line, start in zip(told[1:], expected, strict=True):
        assert line.startswith(f"  {start}"), line
    assert not (tmp_path / "out").exists()


def test_what_a_mistake_quotes_is_cut(clips: Path, tmp_path: Path) -> None:
    (clips.parent / "x.csv").write_bytes(b"audio,label\n" + b"\xff" * 100_000)
    with pytest.raises(RecipeError, match="line 2: not UTF-8") as caught:
        prepare_dataset(ask(clips.parent / "x.csv", tmp_path))
    assert len(str(caught.value)) < 5000


def test_a_recording_is_the_same_however_its_path_is_spelt(clips: Path, tmp_path: Path) -> None:
    name = names(clips)[0]
    lines = f"clips/{name},train", f"./clips//{name},test"
    path = write(clips, "x.csv", "audio,split", *lines)
    with pytest.raises(RecipeError, match=rf"line 3: the key clips/{name} stands in line 2, too"):
        prepare_dataset(ask(path, tmp_path))


def test_halves_of_characters_are_no_text(clips: Path, tmp_path: Path) -> None:
    path = write(clips, "x.jsonl", '{"audio": "clips/x.wav", "key": "\\ud800"}')
    with pytest.raises(RecipeError, match=r"line 1: not readable as JSON: .*surrogates"):
        prepare_dataset(ask(path, tmp_path))


def test_a_long_list_of_mistakes_is_cut(clips: Path, tmp_path: Path) -> None:
    path = write(clips, "many.csv", "path", *(f"none{i}.wav" for i in range(80)))
    with pytest.raises(RecipeError) as caught:
        prepare_dataset(ask(path, tmp_path))
    told = str(caught.value).splitlines()
    assert (len(told), told[-1]) == (52, "  … and 30 more")


@pytest.mark.parametrize(
    ("header", "params", "message"),
    [
        ("name,label", "", r"line 1: no column of paths: expected audio, path"),
        ("path,file", "", r"line 1: the columns path and file may both mean audio; choose one"),
        ("path,x", "label=y", r"line 1: no column y, which label=y asks for; there are path, x"),
        ("path,my word", "keep=my word", r"column my word: can't be kept by that name; rename it"),
        ("path,features", "keep=features", r"column features: can't be kept by that name"),
        ("path,seeds", "keep=seeds", r"column seeds: can't be kept by that name"),
        ("path,path", "", r"column 'path': expected every column to have its own name"),
        ("path", "", r"holds no row"),
        ("", "", r"no column of paths"),
    ],
)
def test_a_header_that_makes_no_sense(
    clips: Path, tmp_path: Path, header: str, params: str, message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        prepare_dataset(ask(write(clips, "x.csv", header), tmp_path, params=params))


def test_a_column_that_is_not_there_is_told_where_there_are_rows(
    clips: Path, tmp_path: Path
) -> None:
    path = write(clips, "x.csv", "path,x", *(f"clips/{name},a" for name in names(clips)))
    for role in ("label", "audio", "group"):
        with pytest.raises(RecipeError, match=f"no column y, which {role}=y asks for; there are"):
            prepare_dataset(ask(path, tmp_path, params=f"{role}=y"))


def test_a_folder_with_one_table_is_that_table(clips: Path, tmp_path: Path) -> None:
    write(clips, "metadata.csv", "file_name,text", *(f"clips/{name},hi" for name in names(clips)))
    assert sum(prepare_dataset(ask(clips.parent, tmp_path, params="seed=1")).rows.values()) == 20
    write(clips, "other.csv", "path")
    with pytest.raises(UsageError, match=r"expected one table .*, got metadata.csv, other.csv"):
        prepare_dataset(ask(clips.parent, tmp_path))
    with pytest.raises(UsageError, match=r"expected one table .*, got none"):
        prepare_dataset(ask(clips / "clip00.wav", tmp_path))


def test_a_table_is_known_by_its_own_bytes_and_those_of_its_recordings(
    clips: Path, tmp_path: Path
) -> None:
    path = write(clips, "x.csv", "path", *(f"clips/{name}" for name in names(clips)[:4]))
    asked = ask(path, tmp_path, params="shares=1+0+0")
    first = prepare_dataset(asked)
    (clips / "clip19.flac").write_bytes(b"no row names it")
    assert prepare_dataset(asked).up_to_date
    (clips / "clip00.wav").write_bytes((clips / "clip07.wav").read_bytes())
    changed = prepare_dataset(asked)
    assert changed.folder != first.folder
    absolute = [str(clips / name) for name in names(clips)[:4]]
    other = prepare_dataset(
        ask(write(clips, "y.csv", "path", *absolute), tmp_path, params="shares=1+0+0")
    )
    assert set(open_dataset(other.folder)["train"].column("key")) == set(absolute)


@pytest.mark.parametrize(
    ("name", "data", "columns", "rows", "mistakes"),
    [
        (
            "x.csv",
            b'\xef\xbb\xbfa,b\r\n"1\n2","x""y"\r\n\r\n3,4\r\n',
            ("a", "b"),
            [(2, {"a": "1\n2", "b": 'x"y'}), (5, {"a": "3", "b": "4"})],
            [],
        ),
        ("x.tsv", b'a\tb\n"1\t2"\n', ("a", "b"), [(2, {"a": '"1', "b": '2"'})], []),
        (
            "x.csv",
            b'a\n"1\n',
            ("a",),
            [],
            [(2, "not readable as CSV from here on")],
        ),
        (
            "x.jsonl",
            b'{"a": 1}\n\n{"b": null, "a": 2.5}\n',
            ("a", "b"),
            [(1, {"a": "1", "b": ""}), (3, {"a": "2.5", "b": ""})],
            [],
        ),
        (
            "x.jsonl",
            b'[1]\n{"a": [1]}\n{"a": true}\n{"a"\n',
            (),
            [],
            [
                (1, "the line: expected"),
                (2, "column a: expected"),
                (3, "column a"),
                (4, "not readable as"),
            ],
        ),
    ],
)
def test_tables_are_read_with_their_lines(
    name: str, data: bytes, columns: object, rows: object, mistakes: list[tuple[int, str]]
) -> None:
    table = read_table(name, data)
    assert table.columns == columns
    assert [(row.line, row.values) for row in table.rows] == rows
    for (line, told), (expected, start) in zip(table.mistakes, mistakes, strict=True):
        assert line == expected
        assert told.startswith(start), told


CELLS = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=8)


@given(st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=5))
def test_what_spreadsheets_write_comes_back(rows: list[list[str]]) -> None:
    out = io.StringIO()
    csv.writer(out).writerows([["a", "b"], *rows])
    table = read_table("x.csv", out.getvalue().encode())
    assert [list(row.values.values()) for row in table.rows] == rows
    assert not table.mistakes
    lines = "".join(json.dumps(dict(zip("ab", row, strict=True))) + "\n" for row in rows)
    found = read_table("x.jsonl", lines.encode())
    assert [list(row.values.values()) for row in found.rows] == rows


def test_another_encoding_is_told() -> None:
    first, *_ = read_table("x.csv", "a\n".encode("utf-16")).mistakes
    assert first[0] == 1
    assert first[1].startswith("not UTF-8 (invalid start byte at byte 0)")


def test_a_clip_is_the_recording(clips: Path, tmp_path: Path) -> None:
    path = write(clips, "x.csv", "path", "clips/clip02.wav")
    asked = ask(path, tmp_path, params="shares=1+0+0", features="waveform")
    (row,) = rows(open_dataset(prepare_dataset(asked).folder)).values()
    piece = Piece(memoryview((clips / "clip02.wav").read_bytes()))
    expected = load_audio([piece], Audio(16000))
    np.testing.assert_array_equal(np.asarray(row["features"]), expected)
