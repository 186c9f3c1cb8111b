"""``Analysis``: how samples become frames and frames become power spectra."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from pipeline.errors import ClipError, FeatureError
from pipeline.features.options import check_choices

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]

WINDOWS = ("hann", "povey")
EDGES = ("reflect", "zeros", "same", "snip")
PRECISIONS = ("float32", "float64")
LONGEST = 1 << 17  # 3 s at 44.1 kHz: beyond it, the tables of filters fill the memory


@dataclass(frozen=True)
class Analysis:
    """Frames of a clip and their spectra. Lengths are in samples.

    Attributes:
        n_fft: length of the transform; the window is padded to it on both sides.
        win_length, hop_length: length of a frame, and from one frame to the next.
        window: ``hann``, periodic, or ``povey``, Kaldi's symmetric Hann to the power 0.85.
        edges: ``reflect`` or ``zeros``: frames are centred on samples 0, hop, 2·hop …, and the clip
            is mirrored or silent beyond its ends; ``same``: mirrored by (n_fft - hop)/2 only, so
            that n samples give n/hop frames; ``snip``: only frames that fit entirely.
        drop_last: leave out the last frame.
        gain: samples are multiplied with it; 32768 gives Kaldi's 16-bit range.
        dither: standard deviation of Gaussian noise added to the samples after ``gain``.
        dither_seed: the noise is drawn from it, the same for every clip.
        remove_dc: subtract each frame's mean.
        preemphasis: within a frame, x[i] - preemphasis·x[i-1], the first sample being its own
            predecessor; 0 is none.
        magnitude: |X| where True, else |X|².
        magnitude_floor: added to |X|² before the root.
        precision: of all arithmetic before the values are stored, ``float32`` or ``float64``;
            librosa's transform is float64, and quiet bins beside loud ones show it.
    """

    n_fft: int
    win_length: int
    hop_length: int
    window: str = "hann"
    edges: str = "reflect"
    drop_last: bool = False
    gain: float = 1.0
    dither: float = 0.0
    dither_seed: int = 0
    remove_dc: bool = False
    preemphasis: float = 0.0
    magnitude: bool = False
    magnitude_floor: float = 0.0
    precision: str = "float32"

    def __post_init__(self) -> None:
        check_choices(self, {"window": WINDOWS, "edges": EDGES, "precision": PRECISIONS})
        bounds = (
            ("hop_length", 1 <= self.hop_length <= LONGEST, f"1 to {LONGEST} samples"),
            ("win_length", self.win_length >= 2, "at least 2 samples"),
            ("n_fft", self.n_fft >= self.win_length, f"win_length={self.win_length} or more"),
            ("n_fft", self.n_fft <= LONGEST and self.n_fft % 2 == 0, f"even, at most {LONGEST}"),
            ("gain", 1e-6 <= self.gain <= 1e6, "1e-6 to 1e6"),
            ("dither", 0 <= self.dither <= 1e6, "0 to 1e6"),
            ("dither_seed", self.dither_seed >= 0, "0 or more"),
            ("preemphasis", 0 <= self.preemphasis <= 1, "0 to 1"),
            ("magnitude_floor", 0 <= self.magnitude_floor <= 1e6, "0 to 1e6"),
        )
        for name, holds, expected in bounds:
            if not holds:
                raise FeatureError(f"{name}={getattr(self, name)}: expected {expected}")
        if self.edges == "same" and (self.n_fft - self.hop_length) % 2:
            raise FeatureError(
                f"hop_length={self.hop_length}: with edges=same expected n_fft - hop_length even"
            )
        if self.edges == "same" and self.hop_length > self.n_fft:
            raise FeatureError(f"hop_length={self.hop_length}: expected at most n_fft={self.n_fft}")

    @property
    def n_bins(self) -> int:
        """Bins of a spectrum, from 0 Hz to half the sample rate."""
        return 1 + self.n_fft // 2

    @property
    def pad(self) -> int:
        """Samples that are added at either end."""
        if self.edges == "snip":
            return 0
        return (self.n_fft - (self.hop_length if self.edges == "same" else 0)) // 2

    @property
    def shortest(self) -> int:
        """The least number of samples that can be analysed: mirrors need more than they mirror."""
        needed = {
            "snip": self.win_length,
            "zeros": 1,
            "reflect": self.pad + 1,
            "same": max(self.pad + 1, self.hop_length),
        }[self.edges]
        span = self.win_length if self.edges == "snip" else self.n_fft
        one_frame = span - 2 * self.pad + (self.hop_length if self.drop_last else 0)
        return max(needed, one_frame)

    def frames(self, n_samples: int) -> int:
        """Frames of a clip of so many samples, at least ``shortest``."""
        span = self.win_length if self.edges == "snip" else self.n_fft
        count = 1 + (n_samples + 2 * self.pad - span) // self.hop_length
        return max(count - self.drop_last, 0)

    @property
    def first(self) -> int:
        """Where the first frame's window begins in the padded clip."""
        return 0 if self.edges == "snip" else (self.n_fft - self.win_length) // 2


@cache
def window(name: str, length: int) -> Doubles:
    """The window, (length,) float64 in [0, 1].

    ``hann`` as ``torch.hann_window`` and ``librosa`` make it (periodic); ``povey`` as Kaldi's
    ``FeatureWindowFunction`` (feature-window.cc).
    """
    i = np.arange(length)
    if name == "hann":
        return 0.5 - 0.5 * np.cos(2 * np.pi * i / length)
    symmetric: Doubles = (0.5 - 0.5 * np.cos(2 * np.pi * i / (length - 1))) ** 0.85
    return symmetric


def padded(samples: Floats, analysis: Analysis) -> Floats:
    """(batch, n) → (batch, n + 2·pad) float32, contiguous: gain, dither and edges applied.

    Raises:
        ClipError: fewer samples than ``shortest``.
    """
    batch, n = samples.shape
    if n < analysis.shortest:
        raise ClipError(
            f"{n} samples are too few for n_fft={analysis.n_fft}, edges={analysis.edges}: "
            f"expected at least {analysis.shortest}"
        )
    pad = analysis.pad
    whole = np.empty((batch, n + 2 * pad), np.float32)
    inner = whole[:, pad : pad + n]
    np.multiply(samples, np.float32(analysis.gain), out=inner)
    if analysis.dither:
        noise = np.random.default_rng(analysis.dither_seed).standard_normal(n, np.float32)
        inner += noise * np.float32(analysis.dither)
    if analysis.edges == "zeros":
        whole[:, :pad] = 0
        whole[:, pad + n :] = 0
    elif pad:  # mirrored, the end itself not repeated
        whole[:, :pad] = inner[:, pad:0:-1]
        whole[:, pad + n :] = inner[:, -2 : -pad - 2 : -1]
    return whole
