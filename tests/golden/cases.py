"""What is compared: a feature of ours, the tool's own, and the float64 derivation, on a signal."""

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from pipeline.features import LogMel, Mfcc
from tests.golden import derive


@dataclass(frozen=True)
class Case:
    """One front end's feature: ours, and the float64 derivation with the same parameters."""

    name: str
    feature: Any
    exact: Callable[[np.ndarray], np.ndarray]


def speech_case(front_end: str, rate: int) -> list[Case]:
    """Log-mel and MFCC of torchaudio or librosa at their usual parameters."""
    log_mel, mfcc = LogMel.at(rate, front_end), Mfcc.at(rate, front_end)
    own = log_mel.analysis
    function = getattr(derive, f"{front_end}_log_mel")
    sizes = (rate, own.n_fft, own.win_length, own.hop_length, 64)
    return [
        Case(f"{front_end} log_mel {rate}", log_mel, lambda x: function(x, *sizes)),
        Case(
            f"{front_end} mfcc {rate}",
            mfcc,
            lambda x: derive.dct(function(x, *sizes), mfcc.n_mfcc),
        ),
    ]


CASES = {
    16000: [
        *speech_case("torchaudio", 16000),
        *speech_case("librosa", 16000),
        Case(
            "kaldi log_mel 16000",
            LogMel.at(16000, "kaldi"),
            lambda x: derive.kaldi_log_mel(x, 16000, 80),
        ),
        Case("kaldi mfcc 16000", Mfcc.at(16000, "kaldi"), lambda x: derive.kaldi_mfcc(x, 16000)),
        *(
            Case(
                f"whisper log_mel {mels}",
                LogMel.at(16000, "whisper", n_mels=mels),
                lambda x, mels=mels: derive.whisper_log_mel(x, mels),  # type: ignore[misc]
            )
            for mels in (80, 128)
        ),
    ],
    22050: [
        *speech_case("torchaudio", 22050),
        *speech_case("librosa", 22050),
        Case("hifigan log_mel", LogMel.at(22050, "hifigan"), derive.hifigan_log_mel),
    ],
}
REAL = {  # archive, member, first sample
    16000: ("speech_commands_v0.01_subset.tar.gz", "./happy/0135f3f2_nohash_0.wav", 3000),
    22050: ("LJSpeech-1.1_subset.tar.bz2", "LJSpeech-1.1/wavs/LJ001-0002.wav", 2000),
}


def formula(rate: int) -> np.ndarray:
    """0.6 s that anyone can make again: gliding tones under an envelope, and a little noise."""
    t = np.arange(int(0.6 * rate)) / rate
    glide = sum(np.sin(2 * np.pi * h * (150 * t + 80 * t**2)) / h for h in range(1, 20))
    noise = np.random.Generator(np.random.Philox(7)).standard_normal(len(t))
    envelope = 10 ** (-2.5 * np.abs(np.sin(2 * np.pi * 2.5 * t)))
    return np.rint(32768 * 0.2 * envelope * (glide + 0.05 * noise)).astype(np.int16)


def real(rate: int, data: Path) -> np.ndarray:
    """0.6 s of a real recording, int16."""
    archive, member, first = REAL[rate]
    with tarfile.open(data / archive) as tar:
        file = tar.extractfile(member)
        assert file
        samples, found = soundfile.read(io.BytesIO(file.read()), dtype="int16")
    assert found == rate
    return samples[first : first + int(0.6 * rate)]
