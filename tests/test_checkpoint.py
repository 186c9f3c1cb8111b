"""Saved models that are damaged, foreign or of another version: told in one line, by what."""

import functools
import itertools
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pipeline.errors import ModelError
from pipeline.prepare import Request, prepare_dataset
from pipeline.train import settings_for, train
from pipeline.train.checkpoint import BEST, HEADER, LAST, load
from pipeline.train.predict import predict, task_of

TENSOR = torch.zeros(())


@pytest.fixture
def commands(ask_commands: Callable[..., Request]) -> Path:
    return prepare_dataset(ask_commands()).folder


def run(folder: Path, out: Path, **settings: object) -> None:
    given = {"model": "conv2d", "device": "cpu", "epochs": 1} | settings
    train(folder, settings_for(given, {}), out)


def test_damaged_checkpoints_are_named(commands: Path, tmp_path: Path) -> None:
    run(commands, tmp_path)
    whole = (tmp_path / BEST).read_bytes()
    foreign = tmp_path / "foreign.safetensors"
    for data, message in [
        (whole[:-5], "not a whole saved model"),
        (b"\0" * 100, "not a whole saved model"),
        (
            whole.replace(b'\\"format\\": 2', b'\\"format\\": 1'),
            "expected format 2, got 1: another",
        ),
        (whole.replace(b"shardwell", b"shardwill"), "but no model of ours"),
    ]:
        foreign.write_bytes(data)
        with pytest.raises(ModelError, match=message):
            load(foreign)
    with pytest.raises(ModelError, match="expected a saved model, got no such file"):
        load(tmp_path / "none")


def changed(path: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]) -> None:
    """Write a checkpoint anew, its header and its tensors changed."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()[HEADER])
    tensors = load_file(path)
    change(header, tensors)
    save_file(tensors, path, {HEADER: json.dumps(header)})


def refused(folder: Path, clip: Path) -> str | None:
    """Why a model can't be asked about a clip; None where it can."""
    try:
        saved = load(folder)
        task_of(saved)
        list(predict(saved, [clip], 1))
    except ModelError as error:
        return str(error)
    return None


ODD = (None, [], {}, "x", -1, 0, 2.5, True, 5, [1, "x", None], {"x": 1})


def test_a_header_with_any_other_value_is_refused_or_does_as_well(
    commands: Path, tmp_path: Path
) -> None:
    """Nothing but a ModelError, whatever a value is replaced by; most are one."""
    run(commands, tmp_path, model="crnn", options={"hidden": 8})
    whole, clip = (tmp_path / BEST).read_bytes(), tmp_path / "clip.wav"
    soundfile.write(clip, np.zeros(16000), 16000)
    own = asdict(load(tmp_path).description)
    parts = ("options", "features", "audio")
    places = [(name,) for name in own] + [(part, name) for part in parts for name in own[part]]
    outcomes: dict[tuple[object, ...], str] = {}
    for place, odd in itertools.product(places, ODD):
        (tmp_path / BEST).write_bytes(whole)

        def replace(header: dict[str, Any], tensors: object, place=place, odd=odd) -> None:  # type: ignore[no-untyped-def]
            *outer, last = "description", *place
            functools.reduce(dict.__getitem__, outer, header)[last] = odd

        changed(tmp_path / BEST, replace)
        problem = refused(tmp_path, clip)
        if problem is not None:
            outcomes[*place, str(odd)] = problem
    for place, told in {
        ("model", "None"): "but no model of ours: model=None: expected str",
        ("model", "x"): "but no model of ours: unknown model 'x': expected one of",
        ("options", "[]"): "options=[]: expected Mapping",
        ("features", "x"): "features='x': expected Mapping",
        ("shape", "[]"): "features of shape []: expected [None, 40]",
        ("names", "x"): "names='x': expected tuple",
        ("names", "[1, 'x', None]"): "names=[1, 'x', None]: expected tuple",
        ("audio", "{}"): "expected the fields sample_rate",
        ("audio", "sample_rate", "None"): "sample_rate=None: expected a whole number",
        ("options", "hidden", "0"): "option hidden=0: expected at least 1",
        ("features", "n_mfcc", "5"): "features of shape [101, 40]: expected [None, 5]",
    }.items():
        assert told in outcomes[place]
    assert not any("\n" in problem for problem in outcomes.values())
    assert len(outcomes) > 0.6 * len(places) * len(ODD)


def _rename(header: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    tensors["weights.model.old"] = tensors.pop("weights.model.head.bias")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_rename, 'Missing key.* "model.head.bias'),
        (lambda header, tensors: header["progress"].update(x=1), "got .*finished, x"),
        (lambda header, tensors: header["progress"].pop("step"), "the fields step, .*got loader"),
        (lambda header, tensors: header["progress"].update(step="x"), "step='x': expected int"),
        (lambda header, tensors: header["progress"].update(loader={}), "can't go on from it"),
        (lambda header, tensors: tensors.update({"optimizer.x.step": TENSOR}), "'x'"),
        (lambda header, tensors: tensors.update({"optimizer.99.step": TENSOR}), "got 99.step"),
        (lambda header, tensors: tensors.update({"optimizer.0.x": TENSOR}), r"got 0\..*x"),
        (lambda header, tensors: tensors.pop("optimizer.0.exp_avg"), r"got 0\.exp_avg_sq, step"),
        (
            lambda header, tensors: tensors.update({"optimizer.0.exp_avg": torch.zeros(3)}),
            r"parameter 0: expected the shape \[",
        ),
        (lambda header, tensors: header.update(format=1), "expected format 2, got 1: another"),
    ],
)
def test_nobody_goes_on_from_a_foreign_checkpoint(
    change: Any, told: str, commands: Path, tmp_path: Path
) -> None:
    run(commands, tmp_path)
    changed(tmp_path / LAST, change)
    with pytest.raises(ModelError, match=told) as caught:
        run(commands, tmp_path)
    assert "\n" not in str(caught.value)
    assert "another --out" in str(caught.value)
