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
from pipeline.features.mel import dct_matrix, mel_filters
from pipeline.features.scale import DELTA_WIDTH, STD_FLOOR, Log
from pipeline.features.spectral import ENERGY_FLOOR, LogMel, Mfcc, Spectrogram


class FeatureModule(nn.Module):
    """Samples → features: (batch, n) float32 in [-1, 1] → (batch, frames, bins) float32.

    Args:
        feature: ``Spectrogram``, ``LogMel``, ``Mfcc``, or ``Waveform`` (which changes nothing).
        exportable: transform by two small matrix products instead of an FFT, so that the graph
            holds only real arithmetic that every ONNX runtime has. The same values.

    Raises:
        FeatureError: a kind that is not computed from samples, or dither in an exported model.
    """

    window: torch.Tensor
    columns: torch.Tensor
    rows: torch.Tensor
    turns: torch.Tensor
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
        if exportable and feature.analysis.dither:
            raise FeatureError(
                "dither: expected 0 in an exported model, whose answer must be fixed"
            )
        own = feature.analysis
        self.real = torch.float64 if own.precision == "float64" else torch.float32
        self._table("window", window(own.window, own.win_length))
        if exportable:
            n_columns, n_rows = _factors(own.n_fft)
            self._table("columns", _waves(n_columns, n_columns, n_columns))
            self._table("turns", _waves(n_rows, n_columns, own.n_fft))
            self._table("rows", _waves(n_rows, n_rows, n_rows))
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
        if not self.exportable and (samples.ndim != 2 or not samples.is_floating_point()):
            kind = str(samples.dtype).removeprefix("torch.")
            raise FeatureError(
                f"{feature.kind}: expected samples (batch, n) of float32 in [-1, 1], "
                f"got {tuple(samples.shape)} of {kind}"
            )
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
            real, imaginary = self._transform(frames, analysis)
        else:
            spectrum = torch.fft.rfft(frames, n=analysis.n_fft)
            real, imaginary = spectrum.real, spectrum.imag
        power = real.square() + imaginary.square()
        return _magnitude(power + analysis.magnitude_floor) if analysis.magnitude else power

    def _transform(
        self, frames: torch.Tensor, analysis: Analysis
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, frames, win_length) → real and imaginary part, (batch, frames, bins) each.

        One step of Cooley and Tukey's algorithm (1965): n_fft = columns · rows, transforms along
        the columns, turns, transforms along the rows. Sums stay short, so that little is rounded.
        """
        n_columns, n_rows = _factors(analysis.n_fft)
        whole = pad(frames, (0, analysis.n_fft - analysis.win_length))
        grid = whole.reshape(*whole.shape[:-1], n_columns, n_rows).transpose(-1, -2)
        cosine, sine = self.columns
        real, imaginary = grid @ cosine, -(grid @ sine)
        cosine, sine = self.turns
        real, imaginary = real * cosine + imaginary * sine, imaginary * cosine - real * sine
        real, imaginary = real.transpose(-1, -2), imaginary.transpose(-1, -2)
        cosine, sine = self.rows
        real, imaginary = real @ cosine + imaginary @ sine, imaginary @ cosine - real @ sine
        bins = analysis.n_bins
        parts = (part.transpose(-1, -2).flatten(-2)[..., :bins] for part in (real, imaginary))
        return next(parts), next(parts)


def _factors(n: int) -> tuple[int, int]:
    """The two whole numbers nearest to each other whose product is n."""
    low = next(i for i in range(int(n**0.5), 0, -1) if n % i == 0)
    return low, n // low


def _waves(first: int, second: int, period: int) -> "np.typing.NDArray[np.float64]":
    """(2, first, second): cosine and sine of 2π·i·j / period."""
    turns = 2 * np.pi * (np.outer(np.arange(first), np.arange(second)) % period) / period
    return np.stack([np.cos(turns), np.sin(turns)])


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
