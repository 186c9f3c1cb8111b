"""Power spectra and mel energies of frames: by the compiled kernel, or by SciPy where it is absent.

``kernel.c`` is compiled when shardwell is installed from source with a C compiler at hand, and
comes compiled in wheels. It takes half the time of SciPy's FFT alone, because windows, transform
and filters never leave the processor's cache. Both ways agree to a few units of float32's last
place; which of them ran is recorded with every dataset.
"""

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.features.analysis import Analysis, padded, window
from pipeline.features.mel import MelBank, mel_filters

Floats = npt.NDArray[np.float32]
RADICES = (5, 3, 4, 2)
LANES = 8
ALIGNMENT = 32


@dataclass(frozen=True)
class Spectra:
    """What an analysis gives.

    Attributes:
        values: (batch, frames, bins or mels) float32, power or magnitude.
        energies: (batch, frames) float32, each frame's sum of squares before pre-emphasis and
            window; None unless asked for.
    """

    values: Floats
    energies: Floats | None


def spectra(
    samples: Floats,
    analysis: Analysis,
    sample_rate: int,
    bank: MelBank | None,
    energies: bool = False,
) -> Spectra:
    """Spectra, or mel energies where a ``bank`` is given, of a batch of equally long clips.

    Args:
        samples: (batch, n) float32.
        analysis: how to cut and transform.
        sample_rate: in Hz.
        bank: the mel filters, None for all bins.
        energies: whether the frames' energies are wanted, too.

    Raises:
        ClipError: the clips are too short.
    """
    whole = padded(samples, analysis)
    frames = analysis.frames(samples.shape[1])
    width = bank.n_mels if bank else analysis.n_bins
    values = np.empty((len(whole), frames, width), np.float32)
    squares = np.empty((len(whole), frames), np.float32) if energies else None
    plan, library = _plan(analysis, sample_rate, bank), _library()
    if plan and library:
        _by_kernel(library, plan, whole, analysis, values, squares)
    else:
        filters = mel_filters(bank, sample_rate, analysis.n_fft) if bank else None
        _by_scipy(whole, analysis, filters, values, squares)
    return Spectra(values, squares)


def how() -> str:
    """``"kernel"`` or ``"scipy"``: what computes spectra here."""
    return "scipy" if _library() is None else "kernel"


def _by_scipy(
    whole: Floats,
    analysis: Analysis,
    filters: Floats | None,
    values: Floats,
    squares: Floats | None,
) -> None:
    """The same in NumPy and SciPy, clip by clip to stay within the processor's cache."""
    import scipy.fft  # 0.2 s: only a process that computes spectra this way pays for it

    weights = window(analysis.window, analysis.win_length).astype(np.float32)
    for i, clip in enumerate(whole):
        cut = np.lib.stride_tricks.sliding_window_view(clip, analysis.win_length)
        frames: Floats = cut[analysis.first :: analysis.hop_length][: values.shape[1]]
        if analysis.remove_dc:
            frames = frames - frames.mean(axis=1, keepdims=True, dtype=np.float32)
        if squares is not None:
            squares[i] = np.square(frames).sum(axis=1)
        if analysis.preemphasis:
            before: Floats = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
            frames = frames - np.float32(analysis.preemphasis) * before
        # The window's place within n_fft turns only the phase, so the FFT may pad at the end.
        spectrum: Any = scipy.fft.rfft(frames * weights, n=analysis.n_fft, axis=1)
        power = np.square(spectrum.real) + np.square(spectrum.imag)
        if analysis.magnitude:
            power = np.sqrt(power + np.float32(analysis.magnitude_floor))
        values[i] = power if filters is None else power @ filters


# --- the compiled kernel --------------------------------------------------------------------------


class _Struct(ctypes.Structure):
    """``Analysis`` of ``kernel.c``, field by field."""

    _fields_ = (
        ("n_fft", ctypes.c_int32),
        ("win_length", ctypes.c_int32),
        ("n_radices", ctypes.c_int32),
        ("radices", ctypes.c_int32 * 16),
        ("window", ctypes.c_void_p),
        ("twiddles", ctypes.c_void_p),
        ("untangle", ctypes.c_void_p),
        ("preemphasis", ctypes.c_float),
        ("remove_dc", ctypes.c_int32),
        ("magnitude_floor", ctypes.c_float),
        ("n_mels", ctypes.c_int32),
        ("mel_first", ctypes.c_void_p),
        ("mel_count", ctypes.c_void_p),
        ("mel_weights", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class _Plan:
    """A filled-in struct, and the tables it points to."""

    struct: _Struct
    tables: tuple[npt.NDArray[Any], ...]


@cache
def _library() -> ctypes.CDLL | None:
    """The compiled kernel beside this file, None where it was not compiled."""
    for path in sorted(Path(__file__).parent.glob("_kernel.*")):
        try:
            library = ctypes.CDLL(str(path))
        except OSError:
            continue  # compiled for another system
        pointer = ctypes.c_void_p
        library.analyse.argtypes = [pointer] * 3 + [ctypes.c_int64] + [pointer] * 3
        library.analyse.restype = None
        return library
    return None


@cache
def _plan(analysis: Analysis, sample_rate: int, bank: MelBank | None) -> _Plan | None:
    """The kernel's tables for an analysis; None without a kernel, or for an n_fft it can't do."""
    radices = _radices(analysis.n_fft)
    if _library() is None or radices is None:
        return None
    half = analysis.n_fft // 2
    k = 2 * np.pi * np.arange(half // 2 + 1) / analysis.n_fft
    tables: list[npt.NDArray[Any]] = [
        window(analysis.window, analysis.win_length).astype(np.float32),
        _twiddles(half, radices),
        np.stack([np.cos(k), np.sin(k)], axis=1).astype(np.float32),
    ]
    if bank:
        tables += _packed(mel_filters(bank, sample_rate, analysis.n_fft))
    places = [table.ctypes.data for table in tables] + [None] * (6 - len(tables))
    struct = _Struct(
        analysis.n_fft,
        analysis.win_length,
        len(radices),
        (ctypes.c_int32 * 16)(*radices),
        *places[:3],
        analysis.preemphasis,
        analysis.remove_dc,
        analysis.magnitude_floor if analysis.magnitude else -1.0,
        bank.n_mels if bank else 0,
        *places[3:],
    )
    return _Plan(struct, tuple(tables))


def _radices(n_fft: int) -> tuple[int, ...] | None:
    """n_fft / 2 as a product of 5, 3, 4 and 2; None where it is none."""
    if n_fft % 2 or n_fft < 4:
        return None
    rest, radices = n_fft // 2, []
    for radix in RADICES:
        while rest % radix == 0:
            radices.append(radix)
            rest //= radix
    return tuple(radices) if rest == 1 and len(radices) <= 16 else None


def _twiddles(half: int, radices: tuple[int, ...]) -> Floats:
    """exp(-2πi·p·j/length) of every pass, as pairs of real and imaginary part."""
    parts, length = [], half
    for radix in radices:
        turns = np.outer(np.arange(length // radix), np.arange(1, radix)) / length
        parts.append(np.exp(-2j * np.pi * turns).ravel())
        length //= radix
    pairs: Floats = np.concatenate(parts).astype(np.complex128).view(np.float64).astype(np.float32)
    return pairs


def _packed(filters: Floats) -> list[npt.NDArray[Any]]:
    """Each filter's first bin, number of bins and weights, without the zeros around them."""
    first = (filters > 0).argmax(axis=0)
    last = len(filters) - (filters[::-1] > 0).argmax(axis=0)
    weights = [filters[a:b, m] for m, (a, b) in enumerate(zip(first, last, strict=True))]
    counts = (last - first).astype(np.int32)
    return [first.astype(np.int32), counts, np.concatenate(weights)]


def _by_kernel(
    library: ctypes.CDLL,
    plan: _Plan,
    whole: Floats,
    analysis: Analysis,
    values: Floats,
    squares: Floats | None,
) -> None:
    batch, n = whole.shape
    hops = np.arange(values.shape[1], dtype=np.int64) * analysis.hop_length + analysis.first
    starts = (np.arange(batch, dtype=np.int64)[:, np.newaxis] * n + hops).ravel()
    floats = LANES * (4 * analysis.n_fft + 16 + values.shape[2])  # as kernel.c lays them out
    work = np.empty(4 * floats + ALIGNMENT, np.uint8)
    library.analyse(
        ctypes.byref(plan.struct),
        whole.ctypes.data,
        starts.ctypes.data,
        len(starts),
        values.ctypes.data,
        None if squares is None else squares.ctypes.data,
        -(-work.ctypes.data // ALIGNMENT) * ALIGNMENT,
    )
