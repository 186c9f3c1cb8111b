"""Power spectra and mel energies of frames: by the compiled kernel, or by SciPy where it is absent.

``kernel.c`` is compiled when shardwell is built with a C compiler at hand. It takes less time than
SciPy's FFT alone, because windows, transform and filters never leave the processor's cache. Both
ways agree to the rounding of a float32 transform; which of them ran is recorded with every dataset.
"""

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.compiled import newest
from pipeline.features.analysis import Analysis, padded, window
from pipeline.features.mel import MelBank, mel_filters
from pipeline.features.scale import Values

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
RADICES = (5, 3, 8, 4, 2)
LANES = 16  # frames at a time, at most
AT_ONCE = 2**18  # samples that are padded at a time: 1 MiB, which is still cached when analysed


@dataclass(frozen=True)
class Spectra:
    """What an analysis gives.

    Attributes:
        values: (batch, frames, bins or mels) of the analysis's precision, power or magnitude.
        energies: (batch, frames), each frame's sum of squares before pre-emphasis and
            window; None unless asked for.
    """

    values: Values
    energies: Values | None


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
    batch, n = samples.shape
    frames = analysis.frames(n)
    width = bank.n_mels if bank else analysis.n_bins
    real = np.dtype(analysis.precision)
    values: Values = np.empty((batch, frames, width), real)
    squares: Values | None = np.empty((batch, frames), real) if energies else None
    plan, library = _plan(analysis, sample_rate, bank), _library(analysis.precision)
    clips = max(1, AT_ONCE // max(n, 1))
    for part in [slice(i, i + clips) for i in range(0, batch, clips)]:
        whole = padded(samples[part], analysis)
        its_squares = None if squares is None else squares[part]
        if plan and library:
            _by_kernel(library, plan, whole, analysis, values[part], its_squares)
        else:
            filters = mel_filters(bank, sample_rate, analysis.n_fft) if bank else None
            _by_scipy(whole, analysis, filters, values[part], its_squares)
    return Spectra(values, squares)


def how(analysis: Analysis) -> str:
    """``"kernel"`` or ``"scipy"``: what computes these spectra here."""
    known = _library(analysis.precision) and _radices(analysis.n_fft)
    return "kernel" if known else "scipy"


def _by_scipy(
    whole: Floats,
    analysis: Analysis,
    filters: Values | None,
    values: Values,
    squares: Values | None,
) -> None:
    """The same in NumPy and SciPy, clip by clip to stay within the processor's cache."""
    import scipy.fft  # 0.2 s: only a process that computes spectra this way pays for it

    real = values.dtype
    weights = window(analysis.window, analysis.win_length).astype(real)
    filters = None if filters is None else filters.astype(real)
    for i, clip in enumerate(whole):
        cut = np.lib.stride_tricks.sliding_window_view(clip, analysis.win_length)
        frames: Any = cut[analysis.first :: analysis.hop_length][: values.shape[1]].astype(real)
        if analysis.remove_dc:
            frames = frames - frames.mean(axis=1, keepdims=True)
        if squares is not None:
            squares[i] = np.square(frames).sum(axis=1)
        if analysis.preemphasis:
            before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
            frames = frames - real.type(analysis.preemphasis) * before
        # The window's place within n_fft turns only the phase, so the FFT may pad at the end.
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are told later
            spectrum = scipy.fft.rfft(frames * weights, n=analysis.n_fft, axis=1)
            power = np.square(spectrum.real) + np.square(spectrum.imag)
        if analysis.magnitude:
            power = np.sqrt(power + real.type(analysis.magnitude_floor))
        values[i] = power if filters is None else power @ filters


# --- the compiled kernel --------------------------------------------------------------------------


REALS: dict[str, Any] = {"float32": ctypes.c_float, "float64": ctypes.c_double}


@cache
def _struct(precision: str) -> type[ctypes.Structure]:
    """``Analysis`` of ``kernel.c``, field by field."""
    whole, real, pointer = ctypes.c_int32, REALS[precision], ctypes.c_void_p
    fields = [
        ("n_fft", whole),
        ("win_length", whole),
        ("n_radices", whole),
        ("radices", whole * 16),
        ("window", pointer),
        ("twiddles", pointer),
        ("order", pointer),
        ("untangle", pointer),
        ("preemphasis", real),
        ("remove_dc", whole),
        ("magnitude_floor", real),
        ("n_mels", whole),
        ("mel_first", pointer),
        ("mel_count", pointer),
        ("mel_weights", pointer),
    ]
    return type("Analysis", (ctypes.Structure,), {"_fields_": fields})


@dataclass(frozen=True)
class _Plan:
    """A filled-in struct, and the tables it points to."""

    struct: ctypes.Structure
    tables: tuple[npt.NDArray[Any], ...]


@cache
def _library(precision: str) -> ctypes.CDLL | None:
    """The kernel for the newest instructions that this processor has; None without any kernel."""
    return _declared(newest(Path(__file__).with_name("kernel.c"), f"_kernel_{precision}"))


def _declared(library: ctypes.CDLL | None) -> ctypes.CDLL | None:
    """The same kernel, its arguments made known; None where there is none."""
    if library:
        pointer = ctypes.c_void_p
        library.analyse.argtypes = [pointer] * 3 + [ctypes.c_int64] + [pointer] * 3
        library.analyse.restype = None
    return library


@cache
def _plan(analysis: Analysis, sample_rate: int, bank: MelBank | None) -> _Plan | None:
    """The kernel's tables for an analysis; None without a kernel, or for an n_fft it can't do."""
    radices = _radices(analysis.n_fft)
    if _library(analysis.precision) is None or radices is None:
        return None
    half = analysis.n_fft // 2
    k = 2 * np.pi * np.arange(half // 2 + 1) / analysis.n_fft
    tables: list[npt.NDArray[Any]] = [
        window(analysis.window, analysis.win_length) / 2,
        _twiddles(half, radices),
        _order(half, radices),
        np.stack([np.cos(k), np.sin(k)], axis=1),
    ]
    if bank:
        tables += _packed(mel_filters(bank, sample_rate, analysis.n_fft))
    tables = [t.astype(analysis.precision) if t.dtype == np.float64 else t for t in tables]
    places = [table.ctypes.data for table in tables] + [None] * (7 - len(tables))
    struct = _struct(analysis.precision)(
        analysis.n_fft,
        analysis.win_length,
        len(radices),
        (ctypes.c_int32 * 16)(*radices),
        *places[:4],
        analysis.preemphasis,
        analysis.remove_dc,
        analysis.magnitude_floor if analysis.magnitude else -1.0,
        bank.n_mels if bank else 0,
        *places[4:],
    )
    return _Plan(struct, tuple(tables))


def _radices(n_fft: int) -> tuple[int, ...] | None:
    """n_fft / 2 as a product of 5, 3, 8, 4 and 2; None where it is none."""
    if n_fft % 2 or n_fft < 4:
        return None
    rest, radices = n_fft // 2, []
    for radix in RADICES:
        while rest % radix == 0:
            radices.append(radix)
            rest //= radix
    return tuple(radices) if rest == 1 and len(radices) <= 16 else None


def _twiddles(half: int, radices: tuple[int, ...]) -> Doubles:
    """exp(-2πi·p·j/length) of every step, as pairs of real and imaginary part."""
    parts, length = [], half
    for radix in radices:
        turns = np.outer(np.arange(length // radix), np.arange(1, radix)) / length
        parts.append(np.exp(-2j * np.pi * turns).ravel())
        length //= radix
    return np.concatenate(parts).astype(np.complex128).view(np.float64)


def _order(half: int, radices: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """Where the steps of the transform leave bin k: (half) int32."""
    k = np.arange(half)
    order, part = np.zeros(half, np.int32), half
    for radix in radices:
        part //= radix
        order += (k % radix * part).astype(np.int32)
        k //= radix
    return order


def _packed(filters: Doubles) -> list[npt.NDArray[Any]]:
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
    values: Values,
    squares: Values | None,
) -> None:
    batch, n = whole.shape
    hops = np.arange(values.shape[1], dtype=np.int64) * analysis.hop_length + analysis.first
    starts = (np.arange(batch, dtype=np.int64)[:, np.newaxis] * n + hops).ravel()
    vector = LANES * values.itemsize
    work = np.empty(vector * (2 * analysis.n_fft + 17 + values.shape[2]), np.uint8)
    library.analyse(
        ctypes.byref(plan.struct),
        whole.ctypes.data,
        starts.ctypes.data,
        len(starts),
        values.ctypes.data,
        None if squares is None else squares.ctypes.data,
        -(-work.ctypes.data // vector) * vector,  # the first whole vector
    )
