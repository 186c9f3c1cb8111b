"""Our error against float64 is at most twice the tool's own, on a formula and on real speech.

``golden/make.py`` made the values with the tools; ``golden/derive.py`` is the float64 computation.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import real_data
from tests.golden.cases import CASES, Case, formula, real

GOLDEN = np.load(Path(__file__).parent / "golden" / "golden.npz", allow_pickle=False)
ALL = [(rate, case) for rate, cases in CASES.items() for case in cases]
NAMED = pytest.mark.parametrize(("rate", "case"), ALL, ids=[case.name for _, case in ALL])


@pytest.fixture(scope="module")
def recordings() -> dict[int, np.ndarray]:
    return {rate: real(rate, real_data()) for rate in CASES}


def check(case: Case, signal: str, pcm: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {k: GOLDEN[f"{case.name}/{signal}/{k}"] for k in ("tool", "exact", "rows", "tool_error")}
    assert np.abs(kept["tool"] - kept["exact"]).max() <= kept["tool_error"]
    clip = pcm.astype(np.float32)[None] / 32768
    with monkeypatch.context() as patch:
        results: dict[str, Any] = {"kernel": case.feature.apply(clip)[0]}
        patch.setattr("pipeline.features.kernel._plan", lambda *spec: None)
        results["scipy"] = case.feature.apply(clip)[0]
    for values in results.values():
        error = np.abs(values[kept["rows"]] - kept["exact"]).max()
        assert error <= 2 * kept["tool_error"]


@NAMED
def test_on_a_formula(rate: int, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    check(case, "formula", formula(rate), monkeypatch)


@NAMED
@pytest.mark.real
def test_on_real_speech(
    rate: int, case: Case, recordings: dict[int, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    check(case, "speech", recordings[rate], monkeypatch)


@NAMED
def test_the_derivation_agrees_on_another_piece(rate: int, case: Case) -> None:
    """One short piece of the formula, for the derivation is slow and plain."""
    pcm = formula(rate)[: rate // 10]
    exact = case.exact(pcm / 32768)
    ours = case.feature.apply(pcm.astype(np.float32)[None] / 32768)[0]
    assert exact.shape == ours.shape
    np.testing.assert_allclose(ours, exact, atol=2e-3 * np.abs(exact).max())
