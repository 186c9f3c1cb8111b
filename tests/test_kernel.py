"""The kernel of features in C: equal to NumPy and SciPy for any size, and never a stale one."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from hatch_build import REALS, compile_library
from pipeline.compiled import compiled
from pipeline.features import kernel
from pipeline.features.analysis import Analysis, window
from pipeline.features.mel import MelBank
from tests.other_tools import speech


@pytest.mark.parametrize("n_fft", [4, 6, 30, 32, 90, 400, 486, 500, 512, 576, 1000, 1024, 2048])
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("level", ["any", "v3", "v4"])
def test_the_kernel_transforms_any_product_of_2_3_and_5(
    n_fft: int, precision: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysis = Analysis(n_fft, max(2, n_fft - 1), max(1, n_fft // 3), precision=precision)
    source = Path(kernel.__file__).with_name("kernel.c")
    library = kernel._declared(compiled(source, f"_kernel_{precision}_{level}"))
    if library is None or library.level() < {"any": 0, "v3": 3, "v4": 4}[level]:
        pytest.skip("no such kernel here")
    monkeypatch.setattr(kernel, "_library", lambda precision: library)
    clip = speech(2, 5 * n_fft)
    found = kernel.spectra(clip, analysis, 16000, None).values
    whole = np.pad(clip.astype(np.float64), ((0, 0), (n_fft // 2, n_fft // 2)), mode="reflect")
    weights = np.zeros(n_fft)
    weights[analysis.first : analysis.first + n_fft - 1] = window("hann", max(2, n_fft - 1))
    for t in range(found.shape[1]):
        start = t * analysis.hop_length
        exact = np.abs(np.fft.rfft(whole[:, start : start + n_fft] * weights)) ** 2
        bound = (1e-5 if precision == "float32" else 1e-12) * max(exact.max(), 1e-9)
        np.testing.assert_allclose(found[:, t], exact, atol=bound)


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("lanes", [8, 16])
def test_the_kernel_agrees_with_scipy_for_any_number_of_frames_and_filters(
    lanes: int, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiled for any processor: this one may have no use for so many lanes."""
    source = tmp_path / "kernel.c"
    shutil.copy(Path(kernel.__file__).with_name("kernel.c"), source)
    given = [f"-DLANES={lanes}", f"-DREAL={REALS[precision]}"]
    if compile_library(source, "_kernel", given) is None:
        pytest.skip("no compiler here")
    library = kernel._declared(compiled(source, "_kernel"))
    assert library is not None
    analysis = Analysis(
        512, 401, 100, edges="snip", preemphasis=0.97, remove_dc=True, precision=precision
    )
    for frames in (1, 7, 8, 9, 15, 16, 17, 33):
        clips = speech(2, 401 + 100 * (frames - 1))
        for bank in (None, MelBank(1), MelBank(13), MelBank(40)):
            found = []
            for way in (library, None):
                with monkeypatch.context() as patch:
                    patch.setattr(kernel, "_library", lambda precision, way=way: way)
                    kernel._plan.cache_clear()
                    found.append(kernel.spectra(clips, analysis, 16000, bank, energies=True))
            ours, theirs = found
            for own, other in ((ours.values, theirs.values), (ours.energies, theirs.energies)):
                assert own is not None
                assert other is not None
                assert own.shape[:2] == (2, frames)
                bound = (1e-5 if precision == "float32" else 1e-12) * max(other.max(), 1e-9)
                np.testing.assert_allclose(own, other, rtol=1e-4, atol=bound)
    kernel._plan.cache_clear()


def test_a_stale_kernel_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library of another source is told by its number, one without a number by its absence."""
    if kernel._library("float32") is None:
        pytest.skip("no compiled kernel here")
    folder = tmp_path / "features"
    shutil.copytree(Path(kernel.__file__).parent, folder)
    source = folder / "kernel.c"
    source.write_text(source.read_text() + "/* a later version */")
    monkeypatch.setattr(kernel, "__file__", str(folder / "kernel.py"))
    assert kernel._library.__wrapped__("float32") is None
