"""The trainer learns, repeats itself, goes on where it was cut off, refuses what doesn't fit."""

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pipeline.errors import TrainingError, UnknownNameError, UsageError
from pipeline.features import Mfcc
from pipeline.loader import make_loader, open_dataset
from pipeline.prepare import Request, prepare_dataset
from pipeline.train import MODELS, Report, Settings, Trained, settings_for, train
from pipeline.train import loop as loop_module
from pipeline.train.augmenting import steps
from pipeline.train.checkpoint import BEST, LAST, load
from pipeline.train.fitting import _measured, build, describe, statistics
from pipeline.train.folder import events
from pipeline.train.loop import learning_rate
from pipeline.train.metrics import class_scores, confusion
from pipeline.train.models import make
from pipeline.train.models.conv1d import output_length
from pipeline.train.models.pooling import last_of, mean_over, turned
from pipeline.train.run import Run
from tests.sealed import Made, write_made

Ask = Callable[..., Request]
ROOT = Path(__file__).parent.parent
FRAMES = [name for name, entry in MODELS.items() if entry.takes == "frames"]
CLASSIFIERS = [name for name in FRAMES if MODELS[name].task == "classify"]
SMALL = {"bcresnet": {"scale": 1}, "lstm": {"hidden": 16}, "crnn": {"hidden": 8}}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On models this small, threads wait for one another longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def commands(ask_commands: Ask) -> Path:
    return prepare_dataset(ask_commands()).folder


@pytest.fixture
def clips(ask_commands: Ask) -> Path:
    return prepare_dataset(ask_commands(features="waveform")).folder


def run(folder: Path, out: Path, **settings: object) -> tuple[list[Report], Trained]:
    reports: list[Report] = []
    given = {"model": "conv2d", "device": "cpu"} | settings
    return reports, train(folder, settings_for(given, {}), out, reports.append)


def weights(out: Path, name: str = LAST) -> dict[str, torch.Tensor]:
    return load_file(out / name)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_what_it_sees(commands: Path, tmp_path: Path) -> None:
    reports, end = run(commands, tmp_path / "run", epochs=25, batch_size=4)
    assert [r.epoch for r in reports] == list(range(1, 26))
    assert reports[-1].loss < reports[0].loss / 5
    assert reports[-1].train["accuracy"] == 1.0
    assert reports[-1].held_out is not None
    assert end.test is not None
    assert end.test.chance == pytest.approx(1 / 3)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    pictures = {"curves.png", "confusion.png", "examples.png"}
    assert names == {BEST, LAST, "settings.json", "log.jsonl", *pictures}
    assert [e["what"] for e in events(tmp_path / "run")] == ["evaluation"] * 25 + ["end"]


def test_the_best_is_kept_not_the_last(commands: Path, tmp_path: Path) -> None:
    reports, end = run(commands, tmp_path, epochs=6, batch_size=4, lr=0.01)
    scores = [r.held_out["accuracy"] for r in reports if r.held_out]
    best = load(tmp_path).progress
    assert best["best"] == max(scores)
    assert best["step"] == reports[scores.index(max(scores))].step
    assert end.steps == reports[-1].step


def test_the_same_settings_give_the_same_weights(commands: Path, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    options = {"model": "crnn", "options": SMALL["crnn"], "epochs": 2, "augment": ("mask",)}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        run(commands, tmp_path / name, **options, seed=seed)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))
    assert torch.equal(torch.random.get_rng_state(), before)  # nobody else's generator moved


@pytest.mark.parametrize(
    ("eval_every", "waveforms", "augment"),
    [(None, False, ("shift", "mask")), (2, True, ("shift", "noise", "mask"))],
)
def test_a_run_that_was_cut_off_ends_the_same(
    ask_commands: Ask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    eval_every: int | None,
    waveforms: bool,
    augment: tuple[str, ...],
) -> None:
    """Cut off in the middle of an epoch, after a save, with steps done that are lost."""
    features = "waveform" if waveforms else None
    commands = prepare_dataset(ask_commands(features=features)).folder
    options = {
        "model": "crnn",
        "options": SMALL["crnn"],
        "epochs": 3,
        "batch_size": 2,
        "augment": augment,
        "save_every": 3,
        "eval_every": eval_every,
        "schedule": "cosine",
    }
    run(commands, tmp_path / "whole", **options)
    step = loop_module._step

    def dies(run: Run, batch: object) -> None:
        if run.progress.step == 8:
            raise KeyboardInterrupt
        step(run, batch)  # type: ignore[arg-type]

    with monkeypatch.context() as patched:
        patched.setattr(loop_module, "_step", dies)
        with pytest.raises(KeyboardInterrupt):
            run(commands, tmp_path / "cut", **options)
    assert load(tmp_path / "cut", LAST).progress["step"] in (6, 8)
    run(commands, tmp_path / "cut", **options)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert same(weights(tmp_path / "whole", BEST), weights(tmp_path / "cut", BEST))
    assert events(tmp_path / "whole") == events(tmp_path / "cut")


def test_a_finished_run_is_not_trained_again(commands: Path, tmp_path: Path) -> None:
    _, first = run(commands, tmp_path, epochs=1)
    before = weights(tmp_path)
    reports, again = run(commands, tmp_path, epochs=1)
    assert reports == []
    assert again == first
    assert same(before, weights(tmp_path))
    run(commands, tmp_path, epochs=1, workers=1, save_every=1)  # decide nothing
    with pytest.raises(UsageError, match=r"holds a run with epochs=1, now 2: choose another --out"):
        run(commands, tmp_path, epochs=2)


def test_early_stop(commands: Path, tmp_path: Path) -> None:
    reports, end = run(commands, tmp_path, epochs=50, patience=2, lr=1e-9)
    assert len(reports) == 3
    assert end.steps == reports[-1].step


def test_a_loss_that_is_no_number_stops_the_run(commands: Path, tmp_path: Path) -> None:
    wanted = r"step \d+: the loss is .* on \w+/\w+_nohash_0.*last\.safetensors; try a smaller --lr"
    with pytest.raises(TrainingError, match=wanted):
        run(commands, tmp_path, epochs=30, batch_size=3, lr=1e30, optimizer="sgd")
    kept = load(tmp_path, LAST).weights
    assert all(torch.isfinite(tensor).all() for tensor in kept.values())


def test_the_learning_rate_rises_and_falls() -> None:
    settings = Settings(lr=1.0, epochs=10, warmup=0.2, schedule="cosine")
    rates = [learning_rate(settings, step, per_epoch=5) for step in range(50)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == 1.0
    assert rates[30] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.01
    assert learning_rate(Settings(lr=0.3), 1000, 5) == 0.3


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_trains_on_features_and_on_waveforms(
    name: str, commands: Path, clips: Path, tmp_path: Path
) -> None:
    options = {"model": name, "options": SMALL.get(name, {}), "epochs": 1}
    for folder in (commands, clips):
        every = ("shift", "noise", "mask") if folder == clips else ("shift", "mask")
        _, end = run(folder, tmp_path / folder.name, **options, augment=every)
        assert end.test is not None
        assert len(end.test.answers) == 3


def test_bfloat16_is_for_the_model_alone(commands: Path, tmp_path: Path) -> None:
    """Weights, loss and normalisation stay float32; the answers are nearly the same."""
    ends = [run(commands, tmp_path / p, epochs=2, precision=p) for p in ("float32", "bfloat16")]
    losses = [reports[-1].loss for reports, _ in ends]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert all(tensor.dtype != torch.bfloat16 for tensor in weights(tmp_path / "bfloat16").values())


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize(("frames", "bins", "classes"), [(101, 40, 35), (28, 28, 10), (5, 8, 2)])
def test_models_take_any_size(name: str, frames: int, bins: int, classes: int) -> None:
    model = make(name, bins, classes, SMALL.get(name, {}))
    logits = model(torch.zeros(3, frames, bins), torch.tensor([frames, frames, 2]))
    assert logits.shape == (3, classes)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", ["crnn", "lstm"])
def test_padding_changes_nothing(name: str) -> None:
    model = make(name, 40, 5, SMALL[name]).eval()
    features = torch.randn(1, 60, 40, generator=torch.Generator().manual_seed(1))
    padded = torch.nn.functional.pad(features, (0, 0, 0, 41))
    with torch.inference_mode():
        alone, among = (model(x, torch.tensor([60])) for x in (features, padded))
    torch.testing.assert_close(alone, among)


def test_sizes_are_as_published() -> None:
    sizes = {scale: make("bcresnet", 40, 35, {"scale": scale}) for scale in (1, 8)}
    counts = {s: sum(p.numel() for p in model.parameters()) for s, model in sizes.items()}
    assert counts[1] < 10_500
    assert 300_000 < counts[8] < 350_000


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(5, 2, 2), (3, 1, 0), (4, 3, 1)])
def test_the_length_after_a_convolution(kernel: int, stride: int, padding: int) -> None:
    layer = torch.nn.Conv1d(1, 1, kernel, stride, padding)
    for n in range(kernel, 40):
        told = output_length(torch.tensor([n]), kernel, stride, padding)
        assert told.item() == layer(torch.zeros(1, 1, n)).shape[2]


def test_pooling_sees_each_examples_own_steps() -> None:
    steps = torch.arange(12.0).reshape(2, 3, 2)
    lengths = torch.tensor([3, 1])
    assert mean_over(steps, lengths).tolist() == [[2.0, 3.0], [6.0, 7.0]]
    assert last_of(steps, lengths).tolist() == [[4.0, 5.0], [6.0, 7.0]]
    back = [[[4, 5], [2, 3], [0, 1]], [[6, 7], [8, 9], [10, 11]]]
    assert turned(steps, lengths).tolist() == back


def test_augmentation_is_the_loaders_around_the_models_features(
    commands: Path, clips: Path
) -> None:
    """Samples are shifted and made noisy, what is stored is shifted once it is normalised."""
    kinds = {}
    for folder in (commands, clips):
        data = open_dataset(folder)
        own = describe(data, settings_for({"model": "bcresnet"}, {}))
        recogniser = build(own, *statistics(data, own))
        found = steps(own.settings["augment"], data.get("noise"), recogniser)
        kinds[folder] = [getattr(s, "__name__", type(s).__name__) for s in found]
        batch = next(iter(make_loader(data["train"], 9, transform=found)))
        assert batch["features"].shape == (9, 101, 40)
    assert kinds[commands] == ["prepared", "TimeShift", "SpecAugment"]
    assert kinds[clips] == ["TimeShift", "Noise", "prepared", "SpecAugment"]


def test_augmentation_that_can_not_be_done_is_refused(
    commands: Path, digits_dataset: Path, tmp_path: Path
) -> None:
    cases = [
        (
            commands,
            {"augment": ("noise",)},
            "augment=noise: noise is mixed into samples, this .* m",
        ),
        (
            digits_dataset,
            {"augment": ("shift",), "model": "recurrent", "target": "sum"},
            "augment=shift: tokens are not augmented",
        ),
    ]
    for folder, given, message in cases:
        with pytest.raises(UsageError, match=message):
            run(folder, tmp_path / "run", **given)


def test_scores_are_those_of_the_textbook() -> None:
    scores = class_scores([0, 0, 1, 1, 2], [0, 0, 1, 2, 2], ["a", "b", "c"])
    assert scores["accuracy"] == pytest.approx(0.8)
    assert scores["precision"] == pytest.approx((1 + 0.5 + 1) / 3)
    assert scores["recall"] == pytest.approx((1 + 1 + 0.5) / 3)
    assert scores["f1"] == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert confusion([0, 0, 1], [0, 1, 1], 2) == [[1, 0], [1, 1]]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"model": "cnn"}, UnknownNameError, "unknown model 'cnn': expected one of"),
        ({"target": "speaker"}, UnknownNameError, "unknown class label 'speaker': expected one of"),
        ({"options": {"x": 1}}, UnknownNameError, "unknown option of conv2d 'x'"),
        ({"model": "lstm", "options": {"hidden": 2.0}}, UsageError, "hidden=2.0: expected int"),
        ({"lr": 0.0}, UsageError, "lr=0.0: expected a positive learning rate"),
        ({"schedule": "linear"}, UnknownNameError, "unknown schedule 'linear': expected one of"),
        ({"augment": ("echo",)}, UnknownNameError, "unknown augmentation 'echo'"),
        ({"features": "log_mel"}, UsageError, "this dataset holds mfcc already"),
        ({"device": "tpu"}, UnknownNameError, "unknown device 'tpu': expected one of"),
        ({"patience": 0}, UsageError, "patience=0: expected at least 1"),
        ({"epoch": 1}, UnknownNameError, "unknown setting 'epoch': expected one of epochs"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    commands: Path,
    tmp_path: Path,
    given: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        run(commands, tmp_path / "run", **given)


@pytest.mark.parametrize("name", MODELS)
def test_values_of_options_that_make_no_model_are_named(name: str) -> None:
    """Every number among the options of every model."""
    for option, default in MODELS[name].options.items():
        wrong: dict[type, tuple[object, ...]] = {int: (0, -1), float: (1.0, 2.0, -0.1, math.nan)}
        values = (-1,) if option == "context" else wrong.get(type(default), ())
        for value in values:
            with pytest.raises(UsageError, match=rf"^option {option}={value}: expected [^\n]*\d"):
                make(name, 40, 5, {option: value})
    with pytest.raises(UsageError, match="option kernel=4: expected an odd number"):
        make("conv1d", 40, 5, {"kernel": 4})


def test_what_does_not_fit_says_what_does(
    ask_commands: Ask, ask_phrases: Ask, digits_dataset: Path, tmp_path: Path
) -> None:
    cases = [
        (
            prepare_dataset(ask_phrases()).folder,
            r"conv2d needs a class label to learn, but normalized_text is text; ",
        ),
        (
            prepare_dataset(ask_commands(features="waveform", audio="duration=none")).folder,
            r"conv2d needs clips of one length: prepare with duration=.*waveform .* are any; ",
        ),
        (
            prepare_dataset(ask_commands(features="mfcc:n_mfcc=5")).folder,
            r"needs features of \(frames, bins\), 8 bins or more, but mfcc .* 101×5; .*: .*lstm",
        ),
        (digits_dataset, r"needs features of \(frames, bins\), but tokens of this dataset are any"),
    ]
    for folder, message in cases:
        with pytest.raises(UsageError, match=message):
            run(folder, tmp_path / "run")


def test_names_of_classes_are_drawn_as_they_are(tmp_path: Path) -> None:
    """Matplotlib would take some for formulas, and fail on those that are none."""
    rows = [(f"{n}", {"word": n % 2}, np.zeros((9, 40), np.float32)) for n in range(4)]
    splits, names = {"train": rows, "test": rows}, {"word": ["$_$", r"$\frac$"]}
    made = Made(Mfcc.at(16000, n_mfcc=40), {"word": "class"}, splits, names, fixed=True)
    run(write_made(tmp_path / "data", made), tmp_path / "run", epochs=1, target="word")
    for name in ("confusion.png", "examples.png"):
        assert (tmp_path / "run" / name).read_bytes().startswith(b"\x89PNG")


COMMAND = [sys.executable, "-m", "pipeline", "train"]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_weights(commands: Path, tmp_path: Path) -> None:
    """SIGKILL at any moment, thrice, then to the end."""
    flags = (
        "--model crnn --options hidden=16 --epochs 12 --batch-size 2 --save-every 1 --device cpu"
    )
    whole, cut = ([*COMMAND, str(commands), *flags.split(), "--out"] for _ in range(2))
    subprocess.run([*whole, tmp_path / "whole"], cwd=ROOT, env=ONE_THREAD, check=True)
    seen = 0
    for _ in range(3):
        process = subprocess.Popen([*cut, tmp_path / "cut"], cwd=ROOT, env=ONE_THREAD)
        last = tmp_path / "cut" / LAST
        while process.poll() is None:
            if last.exists() and load(last).progress["step"] >= seen + 7:
                process.kill()
            time.sleep(0.01)
        assert process.returncode == -9
        seen = load(last).progress["step"]
    subprocess.run([*cut, tmp_path / "cut"], cwd=ROOT, env=ONE_THREAD, check=True)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "cut"))
    assert same(weights(tmp_path / "whole", BEST), weights(tmp_path / "cut", BEST))
    assert events(tmp_path / "whole") == events(tmp_path / "cut")


def test_every_process_measures_the_same(
    ask_commands: Callable[..., Request], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run on several, each has its share of the batches, but all one scale."""
    split = open_dataset(prepare_dataset(ask_commands(features="waveform")).folder)["train"]
    split = split.select([0] * 64 + [1] * 64)  # two batches that differ
    feature = Mfcc.at(16000)
    alone = _measured(split, feature)
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_rank", lambda: 1)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    for one, other in zip(alone, _measured(split, feature), strict=True):
        assert torch.equal(one, other)
