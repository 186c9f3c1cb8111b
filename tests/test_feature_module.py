"""One definition in three places: prepared, in the training loop, in an exported model."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import ClipError, FeatureError
from pipeline.features import LogMel, Mfcc, Pixels, Spectrogram, Waveform
from pipeline.features.module import FeatureModule
from tests.golden.cases import Case, formula
from tests.other_tools import speech
from tests.test_golden import ALL, GOLDEN

SPECS: list[Any] = [
    Mfcc.at(16000),
    Mfcc.at(16000, "kaldi", deltas=2, normalize="mean"),
    Mfcc.at(16000, "librosa"),
    LogMel.at(16000, "whisper", normalize="mean_variance"),
    LogMel.at(22050, "hifigan"),
    LogMel.at(16000, "kaldi", energy=True),
    Spectrogram.at(16000, magnitude=True, magnitude_floor=1e-9),
    Spectrogram.at(16000, values="log"),
]
NAMED = pytest.mark.parametrize("spec", SPECS, ids=lambda s: f"{s.front_end}-{s.kind}")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@NAMED
@pytest.mark.parametrize("exportable", [False, True])
@pytest.mark.parametrize("device", DEVICES)
def test_the_module_gives_what_apply_gives(spec: Any, exportable: bool, device: str) -> None:
    clips = speech(3, 9000)
    module = FeatureModule(spec, exportable).to(device)
    values = module(torch.from_numpy(clips).to(device)).cpu().numpy()
    expected = spec.apply(clips)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(("rate", "case"), ALL, ids=[case.name for _, case in ALL])
@pytest.mark.parametrize("exportable", [False, True])
def test_the_module_is_as_exact_as_the_tool(rate: int, case: Case, exportable: bool) -> None:
    pcm = formula(rate).astype(np.float32)[None] / 32768
    values = FeatureModule(case.feature, exportable)(torch.from_numpy(pcm))[0].numpy()
    kept = {k: GOLDEN[f"{case.name}/formula/{k}"] for k in ("exact", "rows", "tool_error")}
    assert np.abs(values[kept["rows"]] - kept["exact"]).max() <= 2 * kept["tool_error"]


@pytest.mark.parametrize("spec", [*SPECS, Spectrogram.at(16000, magnitude=True)])
def test_gradients_flow_and_are_finite(spec: Any) -> None:
    clips = torch.from_numpy(speech(2, 6000))
    clips[:, 3000:] = 0  # digital silence
    clips.requires_grad_()
    FeatureModule(spec)(clips).square().mean().backward()
    assert clips.grad is not None
    assert torch.isfinite(clips.grad).all()
    assert clips.grad.abs().max() > 0


def test_dither_is_the_same_noise_and_never_exported() -> None:
    spec = LogMel.at(16000, "kaldi", dither=1.0, dither_seed=5)
    clips = speech(2, 6000)
    values = FeatureModule(spec)(torch.from_numpy(clips)).numpy()
    np.testing.assert_allclose(values, spec.apply(clips), atol=2e-3)
    with pytest.raises(FeatureError, match="dither: expected 0 in an exported model"):
        FeatureModule(spec, exportable=True)


def test_what_is_not_computed_from_samples_has_no_module() -> None:
    with pytest.raises(FeatureError, match="pixels: not computed from samples"):
        FeatureModule(Pixels())
    samples = torch.rand(2, 50)
    assert FeatureModule(Waveform(16000))(samples) is samples


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")  # of torch.onnx
def test_an_exported_model_gives_the_same_at_any_length(tmp_path: Path) -> None:
    import onnxruntime

    spec = Mfcc.at(16000, "kaldi", deltas=1)
    clips = speech(2, 9000)
    free = torch.export.Dim.DYNAMIC
    program = torch.onnx.export(
        FeatureModule(spec, exportable=True).eval(),
        (torch.from_numpy(clips),),
        dynamo=True,
        dynamic_shapes=({0: free, 1: free},),
        verbose=False,
    )
    assert program
    program.save(tmp_path / "front_end.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "front_end.onnx")
    (given,) = session.get_inputs()
    for batch, n in ((2, 9000), (1, 5003)):
        some = speech(batch, n)
        (values,) = session.run(None, {given.name: some})
        np.testing.assert_allclose(values, spec.apply(some), atol=2e-3)


def test_short_clips_are_refused_as_in_preparing() -> None:
    for spec in SPECS:
        with pytest.raises(ClipError, match="samples are too few"):
            FeatureModule(spec)(torch.zeros(1, spec.analysis.shortest - 1))
