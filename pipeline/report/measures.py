"""What is measured of every clip, piece by piece of a shard, without a loop over clips.

What can be told depends on what is stored: samples know their level, offset and clipping; spectra
know how loud a clip is only up to a constant, and nothing of offset and clipping.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.features import Feature, LogMel, Mfcc, Pixels, Spectrogram, Tokens, Vector, Waveform
from pipeline.rows import Array, Rows

Floats = npt.NDArray[np.float32]
WINDOW = 0.02  # seconds: shorter than any sound that is meant to be heard
QUIET = -60.0  # dB of full scale
FULL_SCALE = 0.999
LOWEST = -100.0  # dB that a level may have at least: digital silence has none
PROFILE = 64  # values at most that stand for a clip


@dataclass(frozen=True)
class Measure:
    """What is measured of a clip.

    Attributes:
        title: for people, with ``unit`` and ``digits`` behind the decimal point.
        about: how it is measured, in a sentence.
        high, low: what a clip is called whose value is far above or below the others'; "" where
            that side is not worth a word.
    """

    title: str
    unit: str
    digits: int
    about: str
    high: str
    low: str = ""


LENGTH = "length"
MEASURES = {
    "level": Measure(
        "Level", "dB", 0, "Root mean square, of full scale.", "louder than usual", "faint"
    ),
    "peak": Measure("Peak", "dB", 0, "The largest sample, of full scale.", "", ""),
    "offset": Measure("DC offset", "%", 2, "The mean of the samples, of full scale.", "off centre"),
    "clipped": Measure("Clipping", "%", 1, "Samples within 0.1 % of full scale.", "clipped"),
    "quiet": Measure(
        "Silence", "%", 0, f"Windows of 20 ms below −{-QUIET:.0f} dB of full scale.", "much silence"
    ),
    "energy": Measure(
        "Loudness", "", 1, "Mean of the features that carry it.", "louder than usual", "faint"
    ),
    "still": Measure(
        "Stillness",
        "%",
        0,
        "Frames equal to the one before: digital silence, or padding.",
        "much silence",
    ),
    "brightness": Measure("Brightness", "%", 0, "Mean of the pixels.", "bright", "dark"),
    "contrast": Measure(
        "Contrast", "%", 0, "Standard deviation of the pixels.", "strong contrast", "pale"
    ),
}


def length_of(feature: Feature) -> tuple[Measure, float]:
    """How lengths are told, and what a stored length is multiplied with for it."""
    long, short = "longer than usual", "shorter than usual"
    if isinstance(feature, Waveform):
        return Measure("Duration", "s", 2, "As stored.", long, short), 1 / feature.sample_rate
    if isinstance(feature, Mfcc | LogMel | Spectrogram):
        hop = feature.analysis.hop_length / feature.sample_rate
        return Measure("Duration", "s", 2, "Frames as stored times their hop.", long, short), hop
    unit = {Pixels: "rows", Vector: "pixels"}.get(type(feature), "tokens")
    return Measure("Length", unit, 0, "As stored.", long, short), 1.0


def noun_of(feature: Feature) -> str:
    """What an example is."""
    other = "sequence" if isinstance(feature, Tokens) else "audio"
    return "image" if isinstance(feature, Pixels | Vector) else other


def unknowable(feature: Feature) -> str:
    """What these features can't tell, in a sentence; "" where nothing is missing."""
    if not isinstance(feature, Mfcc | LogMel | Spectrogram):
        return ""
    known = "whether a recording was clipped or silent is known from its preparation alone"
    lost = " Each clip was normalised, so that nothing tells how loud it was."
    normalised = lost if feature.finish.normalize != "none" else ""
    return (
        f"{feature.kind} features do not tell level in decibels, DC offset or clipping; {known}. "
        f"A dataset of waveforms tells all of it, and plays.{normalised}"
    )


def measured(rows: Rows, feature: Feature) -> tuple[Mapping[str, Floats], Floats]:
    """Measures by name, (n,) each, and what stands for every clip, (n, at most ``PROFILE``)."""
    if isinstance(feature, Waveform):
        return _of_samples(rows, feature)
    if isinstance(feature, Pixels | Vector):
        return _of_pixels(rows, feature)
    if isinstance(feature, Mfcc | LogMel | Spectrogram):
        return _of_spectra(rows, feature)
    return {}, _shares_of_tokens(rows)


def per_clip(function: np.ufunc, values: Array, lengths: Array, dtype: Any = None) -> Array:
    """``function.reduce`` over each run of ``values``; zeros for empty runs."""
    found = np.zeros((len(lengths), *values.shape[1:]), dtype or values.dtype)
    filled = lengths > 0
    if filled.any():
        begins = (np.cumsum(lengths) - lengths)[filled]
        found[filled] = function.reduceat(values, begins, axis=0, dtype=dtype)
    return found


def _of_samples(rows: Rows, feature: Waveform) -> tuple[Mapping[str, Floats], Floats]:
    samples = rows.values.astype(np.float32)
    samples *= np.float32(feature.step)
    lengths = np.maximum(rows.lengths, 1)
    window = max(round(WINDOW * feature.sample_rate), 1)
    per_row = -(-rows.lengths // window)  # windows, the last of a clip perhaps shorter
    sizes = _window_sizes(rows.lengths, per_row, window)
    means = per_clip(np.add, samples, sizes).astype(np.float64)
    peaks = np.maximum(
        per_clip(np.maximum, samples, rows.lengths), -per_clip(np.minimum, samples, rows.lengths)
    )
    np.square(samples, out=samples)
    cut = per_clip(np.add, samples >= FULL_SCALE**2, rows.lengths, np.int64)
    powers = per_clip(np.add, samples, sizes).astype(np.float64)
    energy, offset = (per_clip(np.add, sums, per_row) / lengths for sums in (powers, means))
    levels = decibels(powers / np.maximum(sizes, 1))
    quiet = per_clip(np.add, levels < QUIET, per_row, np.int64) / np.maximum(per_row, 1)
    found = {
        "level": decibels(energy),
        "peak": decibels(peaks.astype(np.float64) ** 2),
        "offset": 100 * np.abs(offset),
        "clipped": 100 * cut / lengths,
        "quiet": 100 * quiet,
    }
    return _as_floats(found), _slots(levels.astype(np.float32)[:, None], per_row, 32)[:, :, 0]


def _window_sizes(lengths: Array, per_row: Array, window: int) -> Array:
    """The samples of all windows of all clips, one after the other."""
    sizes = np.full(int(per_row.sum()), window)
    filled = per_row > 0
    sizes[np.cumsum(per_row)[filled] - 1] -= (per_row * window - lengths)[filled]
    return sizes


def decibels(powers: Array) -> Array:
    """Powers in dB of full scale, not below ``LOWEST``."""
    return 10 * np.log10(np.maximum(powers, 10 ** (LOWEST / 10)))


def _slots(values: Array, lengths: Array, slots: int) -> Array:
    """Every clip as ``slots`` of its frames, evenly chosen, (n, slots, …); zeros for none."""
    if not len(values):
        return np.zeros((len(lengths), slots, *values.shape[1:]), values.dtype)
    begins = np.cumsum(lengths) - lengths
    places = begins[:, None] + np.arange(slots) * lengths[:, None] // slots
    chosen: Array = values[np.minimum(places, len(values) - 1)]
    chosen[lengths == 0] = 0
    return chosen


def _of_spectra(
    rows: Rows, feature: Mfcc | LogMel | Spectrogram
) -> tuple[Mapping[str, Floats], Floats]:
    values, lengths = rows.values.astype(np.float32, copy=False), rows.lengths
    means = per_clip(np.add, values, lengths) / np.maximum(lengths, 1)[:, None]
    same = np.zeros(len(values), bool)
    same[1:] = (values[1:] == values[:-1]).all(axis=1)
    same[(np.cumsum(lengths) - lengths)[lengths > 0]] = False  # the first frame has none before
    still = per_clip(np.add, same, lengths, np.int64) / np.maximum(lengths - 1, 1)
    static = means.shape[1] // (1 + feature.finish.deltas)
    loud = means[:, 0] if isinstance(feature, Mfcc) else means[:, :static].mean(axis=1)
    return _as_floats({"energy": loud, "still": 100 * still}), folded(means)


def folded(values: Array) -> Floats:
    """(n, bins) as (n, at most ``PROFILE``): neighbours in one."""
    width = values.shape[1]
    if width <= PROFILE:
        return values.astype(np.float32, copy=False)
    edges = np.arange(PROFILE) * width // PROFILE
    sums = np.add.reduceat(values, edges, axis=1)
    return (sums / np.diff([*edges, width])).astype(np.float32)


def _of_pixels(rows: Rows, feature: Pixels | Vector) -> tuple[Mapping[str, Floats], Floats]:
    shape = (len(rows), feature.height, feature.width)
    images = rows.values.reshape(shape).astype(np.float32) / 255
    found = {
        "brightness": 100 * images.mean(axis=(1, 2)),
        "contrast": 100 * images.std(axis=(1, 2)),
    }
    side = 8  # a thumbnail of 8×8 stands for the image
    for axis in (1, 2):
        edges = np.arange(min(side, images.shape[axis])) * images.shape[axis] // side
        images = np.add.reduceat(images, np.unique(edges), axis=axis)
    thumbnails = images.reshape(len(rows), -1).astype(np.float32)
    return _as_floats(found), thumbnails


def _shares_of_tokens(rows: Rows) -> Floats:
    """How often every token comes, by clip; tokens beyond the first 64 share places."""
    owners = np.repeat(np.arange(len(rows)), rows.lengths)
    places = owners * PROFILE + rows.values % PROFILE
    counts = np.bincount(places, minlength=len(rows) * PROFILE).reshape(len(rows), PROFILE)
    return (counts / np.maximum(rows.lengths, 1)[:, None]).astype(np.float32)


def _as_floats(found: Mapping[str, Array]) -> Mapping[str, Floats]:
    return {name: values.astype(np.float32) for name, values in found.items()}
