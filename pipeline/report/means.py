"""The mean features of every class, as pictures; of every split where there are no classes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.features import Pixels, Tokens, Vector, Waveform
from pipeline.images import as_png, coloured
from pipeline.report.drawing import (
    HEIGHT,
    base64,
    image_picture,
    shares_picture,
    spectra_picture,
    spectrogram,
)
from pipeline.report.survey import FRAMES, Numbers, Survey

GROUPS = 40  # whose means are shown
HEARD = 24  # clips whose spectra make the mean of a group of waveforms
ABOUT = {
    "pixels": "Every pixel's mean.",
    "vector": "Every pixel's mean.",
    "tokens": "How often each token comes, 0 on the left.",
    "waveform": f"Mean spectra in decibels, of up to {HEARD} clips each; time to the right.",
}
OF_SPECTRA = (
    "Time to the right, frequency or number of the coefficient upwards; every bin relative to its "
    "mean in train."
)


@dataclass(frozen=True)
class Mean:
    """A group's name, how many examples it has, and its mean features as a PNG in base64."""

    name: str
    count: int
    picture: str


def about_means(kind: str) -> str:
    """How the pictures are to be read."""
    return ABOUT.get(kind, OF_SPECTRA)


def means(found: Survey) -> list[Mean]:
    """Those of the groups with most examples, in the order of the groups."""
    regular = found.groups[found.regular]
    counts = np.bincount(regular[regular >= 0], minlength=len(found.group_names))
    groups = np.argsort(-counts, kind="stable")[:GROUPS]
    pictures = _pictures(found, np.sort(groups[counts[groups] > 0]))
    return [
        Mean(found.group_names[group], int(counts[group]), base64(drawn))
        for group, drawn in pictures.items()
    ]


def _pictures(found: Survey, groups: Numbers) -> Mapping[int, bytes]:
    feature = found.sealed.feature
    if isinstance(feature, Waveform):
        drawn = {group: _of_waveforms(found, feature, group) for group in groups.tolist()}
        return {group: picture for group, picture in drawn.items() if picture}
    if isinstance(feature, Tokens):
        shares = {group: found.profiles[found.groups == group] for group in groups.tolist()}
        return {
            group: shares_picture(own.mean(axis=0)[: feature.vocabulary])
            for group, own in shares.items()
        }
    held = {group: found.means[group] for group in groups.tolist() if group in found.means}
    if isinstance(feature, Pixels | Vector):
        return {group: image_picture(mean, feature) for group, mean in held.items()}
    return {group: spectra_picture(found, mean) for group, mean in held.items()}


def _of_waveforms(found: Survey, feature: Waveform, group: int) -> bytes | None:
    clips = np.flatnonzero(found.regular & (found.groups == group))[:HEARD]
    spectra = [spectrogram(found.features(clip), feature, FRAMES) for clip in clips.tolist()]
    whole = [levels for levels in spectra if levels.shape == (FRAMES, HEIGHT)]
    return as_png(coloured(np.mean(whole, axis=0).T[::-1])) if whole else None
