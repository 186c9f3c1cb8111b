"""Transforms: features on the fly are those prepared; what is drawn is the example's own."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import ClipError, FeatureError, UsageError
from pipeline.features import Feature, LogMel, Mfcc, Pixels, Spectrogram, Waveform
from pipeline.loader import Split, make_loader, open_dataset, stream
from pipeline.loader.draws import seeds_of, uniform
from pipeline.prepare import Request, prepare_dataset
from tests.sealed import Made, write_made, write_sealed

Ask = Callable[..., Request]
Batch = dict[str, Any]
FEATURES: list[Any] = [
    Mfcc.at(16000),
    LogMel.at(16000, "kaldi", deltas=1, normalize="mean_variance", dtype="float16"),
    Spectrogram.at(16000, "librosa", values="log"),
]


def opened(request: Request, **options: Any) -> Split:
    return open_dataset(prepare_dataset(request).folder, key=True, **options)["train"]


@pytest.fixture
def waves(ask_commands: Ask) -> Split:
    return opened(ask_commands(features="waveform", audio="duration=none"))


def same(one: Batch, other: Batch, close: float = 0.0) -> None:
    """Two batches are equal; features but for ``close``, a share of the largest value."""
    assert set(one) == set(other)
    for name, values in one.items():
        if name == "features" and close:
            bound = close * float(values.abs().max())
            torch.testing.assert_close(values, other[name], rtol=0, atol=bound)
        else:
            assert values == other[name] if isinstance(values, list) else values.equal(other[name])
            assert getattr(values, "dtype", None) == getattr(other[name], "dtype", None)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.kind)
@pytest.mark.parametrize("audio", ["", "duration=none"])
@pytest.mark.parametrize("stored", ["int16", "float32"])
def test_features_on_the_fly_are_those_prepared(
    ask_commands: Ask, feature: Feature, audio: str, stored: str
) -> None:
    """Bit for bit where batches are gathered; on a device to rounding, of float16 where it is."""
    prepared = opened(ask_commands(features=feature, audio=audio))
    waves = opened(ask_commands(features=f"waveform:dtype={stored}", audio=audio))
    options: dict[str, Any] = {"batch_size": 4, "shuffle": True, "seed": 3}
    wanted = list(make_loader(prepared, **options, transform=[]))
    assert len({n for b in wanted for n in b["lengths"].tolist()}) == (3 if audio else 1)
    for workers in (0, 1):
        made = make_loader(waves, **options, transform=feature, num_workers=workers)
        for one, other in zip(wanted, made, strict=True):
            same(one, other)
    on_device = make_loader(waves, **options, transform=feature, device="cpu")
    for one, other in zip(wanted, on_device, strict=True):
        same(one, other, 1e-3 if feature.dtype == "float16" else 1e-4)


def test_the_lengths_of_phrases_are_frames(ask_phrases: Ask) -> None:
    feature = LogMel.at(22050, "hifigan")
    prepared = opened(ask_phrases(features=feature, audio="sample_rate=22050"))
    waves = opened(ask_phrases(features="waveform", audio="sample_rate=22050"))
    (wanted,) = make_loader(prepared, 6, transform=[])
    (made,) = make_loader(waves, 6, transform=feature)
    same(wanted, made)
    assert len(set(made["lengths"].tolist())) > 1


def tag(batch: Batch) -> Batch:
    return batch | {"first": uniform(batch["seeds"], "tag", 2)}


def drawn(split: Split, epoch: int = 0, **options: Any) -> dict[str, list[float]]:
    """Key → what ``tag`` drew, over an epoch."""
    loader = make_loader(split, **({"batch_size": 4, "seed": 7} | options), transform=[tag])
    loader.set_epoch(epoch)
    return {
        key: values
        for b in loader
        for key, values in zip(b["key"], b["first"].tolist(), strict=True)
    }


def test_draws_are_functions_of_seed_epoch_and_index(waves: Split) -> None:
    wanted = drawn(waves)
    assert len({value for values in wanted.values() for value in values}) == 2 * len(waves)
    for options in (
        {"batch_size": 1},
        {"shuffle": True},
        {"shuffle": "blocks", "num_workers": 2},
        {"max_frames": 40000},
        {"device": "cpu", "num_workers": 1},
    ):
        assert drawn(waves, **options) == wanted
    parts = [drawn(waves, rank=rank, world_size=2, shuffle=True) for rank in (0, 1)]
    assert parts[0] | parts[1] == wanted
    for others in (drawn(waves, epoch=1), drawn(waves, seed=8)):
        assert not {v for vs in others.values() for v in vs} & {
            v for vs in wanted.values() for v in vs
        }
    part = waves.select([3, 1])  # its own indices, as a split of its own
    assert list(drawn(part).values()) == list(wanted.values())[:2]


def test_each_iter_has_the_seeds_of_its_epoch(waves: Split) -> None:
    for workers in (0, 1):
        loader = make_loader(waves, 9, seed=7, transform=[], num_workers=workers)
        first, second = iter(loader), iter(loader)
        assert next(second)["seeds"].equal(seeds_of(7, 1, np.arange(9)))
        assert next(first)["seeds"].equal(seeds_of(7, 0, np.arange(9)))
    assert "seeds" not in next(iter(make_loader(waves, 9)))


def test_what_gathers_can_be_sent_to_a_spawned_process(waves: Split) -> None:
    for device in (None, "cpu"):
        loader = make_loader(waves, 4, transform=[tag, Mfcc.at(16000)], device=device)
        indices = np.arange(4)
        sent = pickle.loads(pickle.dumps(loader.dataset))[1, indices]
        same(sent, loader.dataset[1, indices])
        assert sent["features"].ndim == (2 if device else 3)


def test_a_resumed_loader_draws_what_it_would_have_drawn(waves: Split) -> None:
    def loader() -> Any:
        return make_loader(waves, 2, shuffle=True, seed=7, transform=tag)

    whole, begun, resumed = loader(), loader(), loader()
    wanted = [b["first"].tolist() for b in whole]
    iterator = iter(begun)
    for _ in range(2):
        next(iterator)
    resumed.load_state_dict(begun.state_dict())
    assert [b["first"].tolist() for b in resumed] == wanted[2:]


@pytest.mark.parametrize("device", [None, "cpu"])
def test_a_label_called_seeds_is_not_replaced(tmp_path: Path, device: str | None) -> None:
    rows = [(f"k{n}", {"seeds": n}, np.zeros(400, np.float32)) for n in range(3)]
    made = Made(Waveform(16000, "float32"), {"seeds": "int"}, {"train": rows})
    folder = write_made(tmp_path / "made", made)
    split = open_dataset(folder)["train"]
    assert next(iter(make_loader(split, 3)))["seeds"].tolist() == [0, 1, 2]
    with pytest.raises(UsageError, match="label seeds: a batch's seeds to draw from have that"):
        next(iter(make_loader(split, 3, transform=tag, device=device)))
    bare = open_dataset(folder, labels=[])["train"]
    assert len(next(iter(make_loader(bare, 3, transform=tag)))["seeds"]) == 3


def test_uniform_is_uniform_and_pinned() -> None:
    """The same numbers on every machine, even over many seeds, salts and counts."""
    seeds = seeds_of(0, 0, np.arange(20000))
    assert seeds.dtype == torch.int64
    assert int(seeds.min()) >= 0
    assert len(seeds.unique()) == 20000
    numbers = uniform(seeds, "a", 8)
    assert numbers.shape == (20000, 8)
    assert 0 <= float(numbers.min()) <= float(numbers.max()) < 1
    counts = np.histogram(numbers.numpy(), 100, (0, 1))[0]
    assert ((counts - 1600) ** 2 / 1600).sum() < 160  # chi-square, 99 degrees: one in 10,000
    everything = torch.cat(
        [numbers, uniform(seeds, "b", 2), uniform(seeds_of(0, 1, np.arange(20000)), "a", 2)], 1
    )
    correlations = np.corrcoef(everything.numpy().T) - np.eye(12)
    assert np.abs(correlations).max() < 0.035  # five standard deviations
    assert np.abs(np.corrcoef(numbers[1:, 0], numbers[:-1, 0])[0, 1]) < 0.035
    assert uniform(seeds[:3], "a", 2).equal(numbers[:3, :2])
    assert seeds_of(1, 2, np.array([0, 1 << 40])).tolist() == [
        8064339811826205768,
        1964453200982371952,
    ]
    assert uniform(torch.tensor([0, 1]), "tag", 2).flatten().tolist() == [
        0.3761966975528447,
        0.04714330486780749,
        0.8646315358412932,
        0.5732091829345523,
    ]


def test_steps_run_in_order_and_device_moves_all_but_seeds(waves: Split) -> None:
    def doubled(batch: Batch) -> Batch:
        return batch | {"features": batch["features"] * 2, "seen": batch["features"].shape}

    def halved(batch: Batch) -> Batch:
        return batch | {"features": batch["features"] / 2 + 1}

    plain = next(iter(make_loader(waves, 4)))["features"]
    (batch, *_) = make_loader(waves, 4, transform=[doubled, halved])
    assert batch["features"].equal(plain * 2 / 2 + 1)
    moved = next(iter(make_loader(waves, 4, transform=doubled, device="meta")))
    assert {n: v.device.type for n, v in moved.items() if isinstance(v, torch.Tensor)} == {
        "features": "meta",
        "lengths": "meta",
        "word": "meta",
        "seeds": "cpu",
    }


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"transform": Mfcc.at(8000)}, UsageError, "for 8000 Hz, but the audio is 16000 Hz"),
        ({"transform": [Mfcc.at(16000)] * 2}, UsageError, "one feature at most, got mfcc, mfcc"),
        ({"transform": Pixels()}, FeatureError, "pixels are not computed from samples"),
        ({"transform": Waveform(16000)}, FeatureError, "waveform are not computed from samples"),
        ({"transform": ["mfcc"]}, UsageError, "expected a feature or a callable, got 'mfcc'"),
        ({"device": "cpu"}, UsageError, "device='cpu': expected a transform to run there"),
    ],
)
def test_transforms_that_do_not_fit_are_refused(
    waves: Split, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_loader(waves, 4, **options)


def test_features_need_samples_as_recorded(ask_commands: Ask, digits_dataset: Path) -> None:
    mfcc = Mfcc.at(16000)
    with pytest.raises(UsageError, match="expected a dataset of waveforms, got tokens; prepare"):
        make_loader(open_dataset(digits_dataset)["test"], 4, transform=mfcc)
    normalized = opened(ask_commands(features="waveform"), normalize=True)
    with pytest.raises(UsageError, match="expected samples as recorded, got normalize=True"):
        make_loader(normalized, 4, transform=mfcc)
    assert next(iter(make_loader(normalized, 4, transform=[])))["seeds"].shape == (4,)
    short = opened(ask_commands(features="waveform", audio="duration=0.01"))
    with pytest.raises(FeatureError, match="clips of 160 samples: expected at least 201"):
        make_loader(short, 4, transform=mfcc)


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("key", [True, False])
def test_a_clip_too_short_for_a_feature_is_named(
    device: str | None, key: bool, tmp_path: Path
) -> None:
    rows = [np.zeros(n, np.float32) for n in (300, 201, 200, 9000)]
    folder = write_sealed(tmp_path / "data", rows, 1, fixed=False)
    split, given = open_dataset(folder, key=key)["train"], {"transform": Mfcc.at(16000)}
    for loader in (
        make_loader(split, 4, device=device, **given),
        stream(folder, "train", 4, device=device, key=key, **given),
    ):
        with pytest.raises(ClipError) as caught:
            next(iter(loader))
        name = "00000002" if key else "example 2 of the batch (key=True names it)"
        assert str(caught.value) == (
            f"train: {name} is too short for mfcc: expected 201 samples or more, got 200; "
            'leave such clips out: split.filter("lengths", lambda n: n >= 201)'
        )
    whole = split.filter("lengths", lambda n: n >= 201)
    assert len(next(iter(make_loader(whole, 4, device=device, **given)))["lengths"]) == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_features_are_computed_on_the_gpu(waves: Split) -> None:
    feature = LogMel.at(16000)
    wanted = next(iter(make_loader(waves, 9, transform=feature)))
    for workers in (0, 1):
        loader = make_loader(
            waves, 9, transform=feature, device="cuda", num_workers=workers, pin_memory=True
        )
        batch = next(iter(loader))
        assert batch["features"].is_cuda
        moved = {n: v.cpu() if isinstance(v, torch.Tensor) else v for n, v in batch.items()}
        same(wanted, moved, 1e-4)
