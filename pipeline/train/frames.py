"""``Framing``: the features of a stream of samples, frame by frame, equal to those of the clip."""

from dataclasses import replace
from typing import Any

import torch

from pipeline.errors import ClipError, ModelError
from pipeline.features import Feature, LogMel, Mfcc, Spectrogram
from pipeline.features.module import FeatureModule


class Framing:
    """Hears chunks of samples and gives the frames that are complete.

    It holds the samples that the next frame begins with, and skips those between two frames. Edges
    are as the feature declares them: the first frames wait for what is mirrored, the last ones come
    with the last chunk.

    Raises:
        ModelError: a frame of the feature depends on more than its own samples.
    """

    def __init__(self, feature: Feature) -> None:
        if not isinstance(feature, Spectrogram | LogMel | Mfcc):
            raise ModelError(f"{feature.kind} are not computed frame by frame: no stream can be")
        needs_whole = {
            "top": feature.log.top is not None and getattr(feature, "values", "log") == "log",
            "deltas": feature.finish.deltas > 0,
            "normalize": feature.finish.normalize != "none",
            "dither": feature.analysis.dither > 0,
        }
        for name, holds in needs_whole.items():
            if holds:
                wanted = {"deltas": "0", "dither": "0"}.get(name, "none")
                spec = f"{feature.kind}:{name}={wanted}"
                raise ModelError(
                    f"features with {name} need the whole clip, so no stream can be; prepare, or "
                    f"train on a dataset of waveforms, with --features {spec}"
                )
        own = feature.analysis
        local: Any = replace(feature, analysis=replace(own, edges="snip", drop_last=False))
        self.analysis, self.front = own, FeatureModule(local)
        self.beyond = max(own.pad - own.first, 0)  # samples before and behind the clip
        self.to_skip = max(own.first - own.pad, 0)  # samples to come that no frame begins with
        self.held: torch.Tensor | None = None  # (1, n), from the next frame's first sample on
        self.tail = torch.zeros(1, 0)  # the clip's last samples, to be mirrored
        self.heard = self.given = 0
        self.begun = False

    def hear(self, samples: torch.Tensor, last: bool) -> torch.Tensor:
        """(1, n) samples that follow → (1, frames, bins) that are complete now, maybe none.

        Raises:
            ClipError: the clip ended with too few samples for one frame.
        """
        own = self.analysis
        self.heard += samples.shape[1]
        if last and self.heard < own.shortest:
            raise ClipError(f"{self.heard} samples are too few: expected {own.shortest}")
        whole = samples if self.held is None else torch.cat([self.held, samples], dim=1)
        self.tail = torch.cat([self.tail, samples], dim=1)[:, -self.beyond - 1 :]
        if not self.begun:
            if whole.shape[1] <= self.beyond and not last:
                self.held = whole
                return self._none(samples)
            whole = torch.cat([self._beyond(whole[:, 1 : self.beyond + 1]), whole], dim=1)
            self.begun = True
        if last:
            whole = torch.cat([whole, self._beyond(self.tail[:, : self.beyond])], dim=1)
        whole = self._skip(whole, self.to_skip)
        complete = (whole.shape[1] - own.win_length) // own.hop_length + 1
        # A clip that ends here would have so many; not each frame that is complete is among them.
        ready = max(min(complete, own.frames(self.heard) - self.given), 0)
        self.given += ready
        self.held = self._skip(whole, self.to_skip + ready * own.hop_length)
        if not ready:
            return self._none(samples)
        until = (ready - 1) * own.hop_length + own.win_length
        features: torch.Tensor = self.front(whole[:, :until])
        return features

    def _skip(self, samples: torch.Tensor, n: int) -> torch.Tensor:
        """What is left of samples without the first n; of what is to come, those that they lack."""
        self.to_skip = max(n - samples.shape[1], 0)
        return samples[:, n:]

    def _beyond(self, inside: torch.Tensor) -> torch.Tensor:
        """What lies beyond an edge of the clip; ``inside`` are the samples next to the edge one."""
        if self.analysis.edges == "zeros":
            return inside.new_zeros(1, self.beyond)
        return inside.flip(1)

    def _none(self, samples: torch.Tensor) -> torch.Tensor:
        return samples.new_zeros(1, 0, self.front.feature.bins)
