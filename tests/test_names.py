"""The public names of ``pipeline``, and that importing is light."""

import subprocess
import sys
import textwrap

import pytest

import pipeline

PUBLIC = [
    "Audio",
    "Corpus",
    "Example",
    "FeatureModule",
    "LogMel",
    "Mfcc",
    "Piece",
    "Pixels",
    "Recipe",
    "Ref",
    "Request",
    "ShardwellError",
    "Spectrogram",
    "Tokens",
    "Vector",
    "Waveform",
    "make_loader",
    "open_dataset",
    "prepare_dataset",
    "stream",
]
HEAVY = "{'torch', 'torchaudio', 'pyarrow', 'librosa', 'datasets', 'numpy', 'scipy', 'pandas'}"


def test_public_names_are_pinned() -> None:
    assert pipeline.__all__ == PUBLIC
    assert dir(pipeline) == PUBLIC
    for name in PUBLIC:
        assert getattr(pipeline, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pipeline.nothing  # type: ignore[attr-defined]


def loaded_by(code: str, among: str) -> str:
    script = f"import sys\n{textwrap.dedent(code)}\nprint(sorted({among} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    "code",
    [
        "import pipeline",
        "from pipeline.cli import main; main(['list'])",
        "from pipeline.cli import main; main(['info', 'mnist'])",
        "from pipeline.cli import parser; parser().format_help()",
    ],
)
def test_light_things_load_nothing_heavy(code: str) -> None:
    assert loaded_by(code, HEAVY) == "[]"


def test_preparing_loads_neither_torch_nor_pandas() -> None:
    """A worker that needs no torch starts a second earlier and takes 170 MB less."""
    code = "import pipeline.build, pipeline.prepare, scipy.fft"
    assert loaded_by(code, "{'torch', 'pandas', 'librosa', 'datasets'}") == "[]"
