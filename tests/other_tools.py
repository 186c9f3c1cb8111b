"""Sounds like speech, and their features as torchaudio, librosa and Kaldi compute them."""

from typing import Any

import numpy as np
import torch

from pipeline.features import Mfcc, Spectrogram

RNG = np.random.default_rng(11)


def speech(batch: int, n: int) -> np.ndarray:
    """Something with the dynamics of speech: noise and tones under a moving envelope."""
    t = np.arange(n) / 16000
    envelope = np.abs(np.sin(2 * np.pi * 2 * t)) ** 3
    clips = [
        envelope * (0.3 * np.sin(2 * np.pi * (120 + 40 * i) * t) + 0.05 * RNG.standard_normal(n))
        for i in range(batch)
    ]
    return np.stack(clips).astype(np.float32)


def kaldi_reference(spec: Any, clip: np.ndarray) -> np.ndarray:
    """One clip's features as kaldi-native-fbank computes them."""
    import kaldi_native_fbank

    kind = "Mfcc" if isinstance(spec, Mfcc) else "Fbank"
    options = getattr(kaldi_native_fbank, f"{kind}Options")()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = spec.sample_rate
    options.mel_opts.num_bins = spec.bank.n_mels
    options.use_energy = spec.energy
    if isinstance(spec, Mfcc):
        options.num_ceps = spec.n_mfcc
    online = getattr(kaldi_native_fbank, f"Online{kind}")(options)
    online.accept_waveform(spec.sample_rate, (clip * 32768).tolist())
    online.input_finished()
    return np.stack([online.get_frame(i) for i in range(online.num_frames_ready)])


def librosa_reference(spec: Any, clip: np.ndarray) -> np.ndarray:
    """One clip's features as librosa.feature computes them."""
    import librosa

    own = spec.analysis
    stft = {"n_fft": own.n_fft, "win_length": own.win_length, "hop_length": own.hop_length}
    mel = librosa.feature.melspectrogram(
        y=clip, sr=spec.sample_rate, n_mels=spec.bank.n_mels, **stft
    )
    decibels = librosa.power_to_db(mel)
    if isinstance(spec, Mfcc):
        return librosa.feature.mfcc(S=decibels, n_mfcc=spec.n_mfcc).T
    return decibels.T


def torchaudio_reference(spec: Any, clip: np.ndarray) -> np.ndarray:
    """One clip's features as torchaudio.transforms computes them, (frames, bins)."""
    import torchaudio

    own = spec.analysis
    stft = {"n_fft": own.n_fft, "win_length": own.win_length, "hop_length": own.hop_length}
    transforms = torchaudio.transforms
    decibels = transforms.AmplitudeToDB("power", spec.log.top)
    if isinstance(spec, Spectrogram):
        power = 1.0 if own.magnitude else 2.0
        values = transforms.Spectrogram(power=power, **stft)(torch.from_numpy(clip))
        values = decibels(values) if spec.values == "log" else values
    else:
        bank = spec.bank
        mel = {"n_mels": bank.n_mels, "f_min": bank.f_min, "f_max": bank.f_max, **stft}
        if isinstance(spec, Mfcc):
            made = transforms.MFCC(spec.sample_rate, spec.n_mfcc, melkwargs=mel)
            values = made(torch.from_numpy(clip))
        else:
            made = transforms.MelSpectrogram(spec.sample_rate, **mel)
            values = decibels(made(torch.from_numpy(clip)))
    if spec.finish.deltas:
        compute = torchaudio.functional.compute_deltas
        parts = [values]
        for _ in range(spec.finish.deltas):
            parts.append(compute(parts[-1]))
        values = torch.cat(parts)
    return values.T.numpy()
