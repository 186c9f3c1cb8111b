"""Front ends: the parameters of the tools that people train with, by name.

Each is checked against the tool it is named after, and against a float64 computation of its
published definition (``docs/features.md``). Windows are 25 ms every 10 ms at any sample rate, but
for ``whisper`` and ``hifigan``, which are what their models were trained on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.errors import FeatureError, unknown_name
from pipeline.features.analysis import Analysis
from pipeline.features.mel import MelBank
from pipeline.features.options import with_own
from pipeline.features.scale import Log

USUAL_RATE = 16000  # Hz
KALDI_FLOOR = 2.0**-23  # FLT_EPSILON


@dataclass(frozen=True)
class FrontEnd:
    """The parameters that a front end fills in.

    Attributes:
        sample_rate: the only one it is defined for, in Hz; None: any.
        n_mfcc, lifter, energy: of its MFCC.
        mfcc_mels: mel filters that its MFCC are computed from.
    """

    analysis: Analysis
    bank: MelBank
    log: Log
    sample_rate: int | None = None
    n_mfcc: int = 40
    mfcc_mels: int = 64
    lifter: float = 0.0
    energy: bool = False


def front_end(name: str, sample_rate: int | None) -> FrontEnd:
    """The front end of that name at a sample rate in Hz, by default at the one it is made for.

    Raises:
        UnknownNameError: no such front end.
        FeatureError: it is not defined for that rate.
    """
    if name not in FRONT_ENDS:
        raise unknown_name("front end", name, FRONT_ENDS)
    found = FRONT_ENDS[name](sample_rate or USUAL_RATE)
    if found.sample_rate and sample_rate not in (None, found.sample_rate):
        raise FeatureError(
            f"front end {name}: defined for {found.sample_rate} Hz, got {sample_rate}; "
            f"resample with --audio sample_rate={found.sample_rate}"
        )
    return found


def changed(given: FrontEnd, options: Mapping[str, Any]) -> FrontEnd:
    """A front end with those of the options that its parts have.

    Before a kind is made of it: at some rates its own filters would be empty, those asked for not.
    """
    parts = {"analysis": given.analysis, "bank": given.bank, "log": given.log}
    return replace(given, **{name: with_own(part, options) for name, part in parts.items()})


def torchaudio(sample_rate: int) -> FrontEnd:
    """``torchaudio.transforms`` 2.11: MelSpectrogram, AmplitudeToDB with top_db 80, MFCC.

    At an odd sample rate torchaudio rounds half of it down to whole Hz, which moves its filters by
    up to 3e-3 dB; here they stay where the mel scale puts them.
    """
    return FrontEnd(_speech(sample_rate), MelBank(), Log())


def librosa(sample_rate: int) -> FrontEnd:
    """``librosa.feature`` 0.11: melspectrogram, power_to_db, mfcc (edges are zeros there)."""
    analysis = replace(_speech(sample_rate), edges="zeros", precision="float64")
    return FrontEnd(analysis, MelBank(scale="slaney", norm="slaney"), Log(), n_mfcc=20)


def kaldi(sample_rate: int) -> FrontEnd:
    """Kaldi's compute-fbank-feats and compute-mfcc-feats, as ``kaldi-native-fbank`` 1.22.

    80 mels for log-mel as the k2 recipes have it; Kaldi's own 23 mels and 13 coefficients for MFCC.
    The dither is off.
    """
    win_length, hop_length = sample_rate // 40, sample_rate // 100
    analysis = Analysis(
        n_fft=1 << (win_length - 1).bit_length(),
        win_length=win_length,
        hop_length=hop_length,
        window="povey",
        edges="snip",
        gain=32768.0,
        remove_dc=True,
        preemphasis=0.97,
    )
    return FrontEnd(
        analysis,
        MelBank(80, f_min=20.0, slopes="mel"),
        Log("ln", KALDI_FLOOR, top=None),
        n_mfcc=13,
        mfcc_mels=23,
        lifter=22.0,
        energy=True,
    )


def whisper(sample_rate: int) -> FrontEnd:
    """``whisper.audio.log_mel_spectrogram`` (Radford et al., 2022): 80 mels; large-v3 has 128."""
    return FrontEnd(
        Analysis(400, 400, 160, drop_last=True),
        MelBank(80, scale="slaney", norm="slaney"),
        Log("log10", 1e-10, top=8.0, shift=4.0, factor=0.25),
        sample_rate=16000,
        mfcc_mels=80,
    )


def hifigan(sample_rate: int) -> FrontEnd:
    """``meldataset.mel_spectrogram`` of HiFi-GAN (Kong et al., 2020): what its vocoders expect."""
    return FrontEnd(
        Analysis(1024, 1024, 256, edges="same", magnitude=True, magnitude_floor=1e-9),
        MelBank(80, f_max=8000.0, scale="slaney", norm="slaney"),
        Log("ln", 1e-5, top=None),
        sample_rate=22050,
        mfcc_mels=80,
    )


FRONT_ENDS: dict[str, Callable[[int], FrontEnd]] = {
    "torchaudio": torchaudio,
    "librosa": librosa,
    "kaldi": kaldi,
    "whisper": whisper,
    "hifigan": hifigan,
}


def _speech(sample_rate: int) -> Analysis:
    """25 ms windows every 10 ms; n_fft is the window raised to an even product of 2, 3 and 5."""
    win_length = max(sample_rate // 40, 2)
    n_fft = win_length
    while not _is_smooth(n_fft):
        n_fft += 1
    return Analysis(n_fft, win_length, max(sample_rate // 100, 1))


def _is_smooth(n: int) -> bool:
    """Whether n is even and has no prime factor above 5: what FFTs are fast at."""
    even = n % 2 == 0
    for prime in (2, 3, 5):
        while n % prime == 0:
            n //= prime
    return even and n == 1
