"""``FeatureModule``: a feature's definition as a ``torch.nn.Module``.

For features computed in the training loop, on any device and with gradients, and inside an exported
model. The tables are those that ``apply`` uses, so the two agree to rounding.
"""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import pad

from pipeline.errors import ClipError, FeatureError
from pipeline.features import Feature, Waveform
from pipeline.features.analysis import Analysis, window
from pipeline.features.mel import MOST_WEIGHTS, dct_matrix, mel_filters
from pipeline.features.scale import DELTA_WIDTH, STD_FLOOR, Log
from pipeline.features.spectral import ENERGY_FLOOR, LogMel, Mfcc, Spectrogram


class FeatureModule(nn.Module):
    """Samples → features: (batch, n) float32 in [-1, 1] → (batch, frames, bins) float32.

    Args:
        feature: ``Spectrogram``, ``LogMel``, ``Mfcc``, or ``Waveform`` (which changes nothing).
        exportable: transform by a matrix product instead of an FFT, so that the graph holds only
            real arithmetic that every ONNX runtime has. Slower on a CPU, the same values.

    Raises:
        FeatureError: a kind that is not computed from samples, or dither in an exported model.
    """

    window: torch.Tensor
    basis: torch.Tensor
    filters: torch.Tensor
    dct: torch.Tensor

    def __init__(self, feature: Feature, exportable: bool = False) -> None:
        super().__init__()
        if not isinstance(feature, Spectrogram | LogMel | Mfcc | Waveform):
            raise FeatureError(f"{feature.kind}: not computed from samples, so there is no module")
        self.feature = feature
        self.exportable = exportable
        if isinstance(feature, Waveform):
            return
        if exportable and feature.analysis.win_length * feature.analysis.n_bins > MOST_WEIGHTS:
            raise FeatureError(f"n_fft={feature.analysis.n_fft}: too long for an exported model")
        if exportable and feature.analysis.dither:
            raise FeatureError(
                "dither: expected 0 in an exported model, whose answer must be fixed"
            )
        own = feature.analysis
        self.real = torch.float64 if own.precision == "float64" else torch.float32
        self._table("window", window(own.window, own.win_length))
        if exportable:
            self._table("basis", _fourier_basis(own))
        if not isinstance(feature, Spectrogram):
            self._table("filters", mel_filters(feature.bank, feature.sample_rate, own.n_fft))
        if isinstance(feature, Mfcc):
            matrix = dct_matrix(feature.bank.n_mels, feature.n_mfcc, feature.lifter)
            self._table("dct", matrix)

    def _table(self, name: str, values: "np.typing.NDArray[np.floating]") -> None:
        table = torch.tensor(values, dtype=self.real)
        self.register_buffer(name, table, persistent=False)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        """(batch, n) → (batch, frames, bins); see the class."""
        feature = self.feature
        if isinstance(feature, Waveform):
            return samples
        frames, energies = self._frames(samples.to(self.real), feature.analysis)
        values = self._spectra(frames, feature.analysis)
        if isinstance(feature, LogMel | Mfcc):
            values = _logarithm(values @ self.filters, feature.log)
            if isinstance(feature, Mfcc):
                values = values @ self.dct
            if feature.energy:
                log_energy = energies.clamp(min=ENERGY_FLOOR).log().unsqueeze(-1)
                rest = values[..., 1:] if isinstance(feature, Mfcc) else values
                values = torch.cat([log_energy, rest], dim=-1)
        elif feature.values == "log":
            values = _logarithm(values, feature.log)
        for_deltas = [values]
        for _ in range(feature.finish.deltas):
            for_deltas.append(_delta(for_deltas[-1]))
        values = torch.cat(for_deltas, dim=-1) if feature.finish.deltas else values
        return _normalized(values, feature.finish.normalize).to(samples.dtype)

    def _frames(
        self, samples: torch.Tensor, analysis: Analysis
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, n) → windowed frames (batch, frames, win_length), energies (batch, frames)."""
        n = samples.shape[1]
        if not self.exportable and n < analysis.shortest:
            raise ClipError(f"{n} samples are too few: expected at least {analysis.shortest}")
        whole = samples * analysis.gain
        if analysis.dither:
            noise = np.random.default_rng(analysis.dither_seed).standard_normal(n, np.float32)
            whole = whole + torch.from_numpy(noise).to(whole.device) * analysis.dither
        if analysis.pad:
            mode = "constant" if analysis.edges == "zeros" else "reflect"
            whole = pad(whole, (analysis.pad, analysis.pad), mode=mode)
        frames = whole[:, analysis.first :].unfold(1, analysis.win_length, analysis.hop_length)
        frames = frames[:, : analysis.frames(n)]
        if analysis.remove_dc:
            frames = frames - frames.mean(dim=-1, keepdim=True)
        energies = frames.square().sum(dim=-1)
        if analysis.preemphasis:
            before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
            frames = frames - analysis.preemphasis * before
        return frames * self.window, energies

    def _spectra(self, frames: torch.Tensor, analysis: Analysis) -> torch.Tensor:
        """(batch, frames, win_length) → (batch, frames, bins), power or magnitude."""
        if self.exportable:
            real, imaginary = (frames @ self.basis).chunk(2, dim=-1)
        else:
            spectrum = torch.fft.rfft(frames, n=analysis.n_fft)
            real, imaginary = spectrum.real, spectrum.imag
        power = real.square() + imaginary.square()
        return _magnitude(power + analysis.magnitude_floor) if analysis.magnitude else power


def _fourier_basis(analysis: Analysis) -> "np.typing.NDArray[np.float64]":
    """(win_length, 2·bins): cosines, then sines, of every bin."""
    turns = np.outer(np.arange(analysis.win_length), np.arange(analysis.n_bins)) / analysis.n_fft
    return np.concatenate([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)], axis=1)


def _magnitude(power: torch.Tensor) -> torch.Tensor:
    """The root, with the gradient 0 rather than infinity where there is nothing."""
    present = power > 0
    return torch.where(present, torch.where(present, power, 1.0).sqrt(), 0.0)


def _logarithm(energies: torch.Tensor, log: Log) -> torch.Tensor:
    """As ``Log.apply``."""
    values = energies.clamp(min=log.floor)
    values = values.log() if log.base == "ln" else values.log10()
    if log.base == "db":
        values = values * 10
    if log.top is not None:
        values = torch.maximum(values, values.amax(dim=(1, 2), keepdim=True) - log.top)
    return (values + log.shift) * log.factor


def _delta(features: torch.Tensor) -> torch.Tensor:
    """As ``with_deltas``: (batch, frames, bins), the ends repeated."""
    frames, width = features.shape[1], DELTA_WIDTH
    first, last = features[:, :1].repeat(1, width, 1), features[:, -1:].repeat(1, width, 1)
    wide = torch.cat([first, features, last], dim=1)
    total = torch.zeros_like(features)
    for n in range(1, width + 1):
        after = wide[:, width + n : width + n + frames]
        before = wide[:, width - n : width - n + frames]
        total = total + n * (after - before)
    return total / (2 * sum(n * n for n in range(1, width + 1)))


def _normalized(features: torch.Tensor, how: str) -> torch.Tensor:
    """As ``normalized``."""
    if how == "none":
        return features
    centred = features - features.mean(dim=1, keepdim=True)
    if how == "mean":
        return centred
    std = centred.square().mean(dim=1, keepdim=True).sqrt()
    return centred / std.clamp(min=STD_FLOOR)
