"""The trainer learns, repeats itself, and refuses what doesn't fit."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline.errors import UnknownNameError, UsageError
from pipeline.prepare import Request, prepare_dataset
from pipeline.train import MODELS, Epoch, Settings, Trained, train

Ask = Callable[..., Request]


@pytest.fixture
def commands(ask_commands: Ask) -> Path:
    return prepare_dataset(ask_commands()).folder


def run(folder: Path, **settings: object) -> tuple[list[Epoch], Trained]:
    *epochs, end = train(folder, Settings(**settings))  # type: ignore[arg-type]
    assert isinstance(end, Trained)
    return [e for e in epochs if isinstance(e, Epoch)], end


def test_it_learns_what_it_sees(commands: Path) -> None:
    epochs, end = run(commands, epochs=25, batch_size=4)
    assert len(epochs) == 25
    assert epochs[-1].loss < epochs[0].loss / 5
    assert epochs[-1].train == 1.0
    assert epochs[-1].validation is not None
    assert end.test is not None
    assert end.chance == pytest.approx(1 / 3)


def test_the_same_settings_give_the_same_numbers(commands: Path) -> None:
    before = torch.random.get_rng_state()
    first = run(commands, epochs=2, seed=3)
    assert run(commands, epochs=2, seed=3) == first
    assert run(commands, epochs=2, seed=4) != first
    assert torch.equal(torch.random.get_rng_state(), before)  # nobody else's generator moved


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("frames", "bins", "classes"), [(101, 40, 35), (28, 28, 10), (8, 8, 2)])
def test_models_take_any_size(name: str, frames: int, bins: int, classes: int) -> None:
    model = MODELS[name](bins, classes)
    assert model(torch.zeros(3, frames, bins)).shape == (3, classes)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"model": "cnn"}, UnknownNameError, "unknown model 'cnn': expected one of conv2d"),
        ({"target": "speaker"}, UnknownNameError, "unknown class label 'speaker': expected one of"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    commands: Path, settings: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run(commands, **settings)


def test_features_of_another_rank_are_named(ask_commands: Ask) -> None:
    folder = prepare_dataset(ask_commands(features="waveform")).folder
    with pytest.raises(UsageError, match=r"needs features of \(frames, bins\).*waveform .*16000"):
        run(folder)
