"""Makes ``golden.npz`` with the tools themselves, and prints the table of errors of the docs.

Run with the real recordings beside the project and ``pip install openai-whisper`` (no more of it is
used than its front end): ``python -m tests.golden.make``. Tools: torchaudio 2.11, librosa 0.11,
kaldi-native-fbank 1.22, openai-whisper 20250625; HiFi-GAN has no package, so its definition is
restated here with torch.stft and librosa.filters.mel.

For every case and signal the file holds four frames as the tool gives them (float32) and as
float64 gives them, and the largest error of the tool over all frames.
"""

import warnings
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch

from pipeline.importing import torchaudio
from tests.conftest import real_data
from tests.golden.cases import CASES, Case, formula, real
from tests.other_tools import kaldi_reference, librosa_reference, torchaudio_reference

FRAMES = 4
HERE = Path(__file__).parent


def whisper_tool(feature: Any, clip: np.ndarray) -> np.ndarray:
    from whisper.audio import log_mel_spectrogram

    return log_mel_spectrogram(clip, feature.bank.n_mels).T.numpy()


def hifigan_tool(feature: Any, clip: np.ndarray) -> np.ndarray:
    filters = librosa.filters.mel(sr=22050, n_fft=1024, n_mels=80, fmin=0, fmax=8000)
    wide = torch.nn.functional.pad(torch.from_numpy(clip)[None], (384, 384), mode="reflect")[0]
    spectrum = torch.stft(
        wide, 1024, 256, 1024, torch.hann_window(1024), center=False, return_complex=True
    )
    magnitude = torch.sqrt(torch.view_as_real(spectrum).pow(2).sum(-1) + 1e-9)
    mel = torch.from_numpy(filters) @ magnitude
    return torch.log(torch.clamp(mel, min=1e-5)).T.numpy()


TOOLS = {
    "torchaudio": torchaudio_reference,
    "librosa": librosa_reference,
    "kaldi": kaldi_reference,
    "whisper": whisper_tool,
    "hifigan": hifigan_tool,
}


def chosen(frames: int) -> np.ndarray:
    """A few frames from the first to the last."""
    return np.unique(np.linspace(0, frames - 1, FRAMES).astype(int))


def compare(case: Case, pcm: np.ndarray) -> tuple[dict[str, np.ndarray], float, float, float]:
    """The arrays to keep, the tool's error, ours, and the largest value."""
    clip = pcm.astype(np.float32) / 32768
    exact = case.exact(clip.astype(np.float64))
    tool = TOOLS[case.feature.front_end](case.feature, clip)
    ours = case.feature.apply(clip[None])[0]
    rows = chosen(len(exact))
    kept = {
        "tool": tool[rows],
        "exact": exact[rows],
        "rows": rows,
        "tool_error": np.array(np.abs(tool - exact).max()),
    }
    return kept, np.abs(tool - exact).max(), np.abs(ours - exact).max(), np.abs(exact).max()


def main() -> None:
    warnings.simplefilter("ignore")
    torchaudio()
    arrays: dict[str, np.ndarray] = {}
    print("| front end, kind, rate or mels | signal | largest value | tool's error | our error |")
    print("|---|---|---|---|---|")
    for rate, cases in CASES.items():
        for signal, pcm in (("formula", formula(rate)), ("speech", real(rate, real_data()))):
            for case in cases:
                kept, tool, ours, largest = compare(case, pcm)
                arrays |= {f"{case.name}/{signal}/{k}": v for k, v in kept.items()}
                print(f"| {case.name} | {signal} | {largest:.1f} | {tool:.1e} | {ours:.1e} |")
    np.savez_compressed(HERE / "golden.npz", **arrays)


if __name__ == "__main__":
    main()
