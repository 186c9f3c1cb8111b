"""How fast features are: ours against torchaudio, librosa, kaldi-native-fbank and the bare FFT.

One thread, one process, real speech where it is at hand (else the formula), best of many repeats in
turn. Two settings: MFCC 40 of one second at 16 kHz (400/160), and log-mel 80 at 22,050 Hz
(1024/256) of 6.6 s clips. Microseconds per clip.
"""

import io
import subprocess
import sys
import tarfile
import time
import warnings
from collections.abc import Callable

import numpy as np
import soundfile
import torch
from threadpoolctl import threadpool_limits

from pipeline.features import LogMel, Mfcc, kernel
from pipeline.importing import torchaudio
from tests.conftest import real_data
from tests.golden.cases import formula

BATCH, REPEATS = 32, 15


def speech(archive: str, rate: int, samples: int) -> np.ndarray:
    """(32, samples) float32 of real speech, or of the formula where there is none."""
    try:
        with tarfile.open(real_data() / archive) as tar:
            names = [n for n in tar.getnames() if n.endswith(".wav") and "_background" not in n]
            files = [tar.extractfile(name) for name in names[:200]]
            clips = [soundfile.read(io.BytesIO(f.read()), dtype="float32")[0] for f in files if f]
    except FileNotFoundError:
        clips = [formula(rate).astype(np.float32) / 32768] * 100
    whole = np.concatenate(clips)
    return np.resize(whole, BATCH * samples).reshape(BATCH, samples).copy()


def timed(ways: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Microseconds per clip, the best of the repeats, the ways taking turns."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(REPEATS):
        for name, way in ways.items():
            begin = time.perf_counter()
            way()
            best[name] = min(best[name], (time.perf_counter() - begin) / BATCH * 1e6)
    return best


def kaldi_one_by_one(clips: np.ndarray, spec: LogMel | Mfcc) -> None:
    """kaldi-native-fbank, clip by clip, as its own API wants it."""
    import kaldi_native_fbank as knf

    options = knf.MfccOptions() if isinstance(spec, Mfcc) else knf.FbankOptions()
    frame = options.frame_opts
    frame.samp_freq, frame.dither = spec.sample_rate, 0
    frame.frame_length_ms = spec.analysis.win_length / spec.sample_rate * 1000
    frame.frame_shift_ms = spec.analysis.hop_length / spec.sample_rate * 1000
    options.mel_opts.num_bins = spec.bank.n_mels
    if isinstance(spec, Mfcc):
        options.num_ceps = spec.n_mfcc
    make = knf.OnlineMfcc if isinstance(spec, Mfcc) else knf.OnlineFbank
    for clip in clips:
        online = make(options)
        online.accept_waveform(spec.sample_rate, clip)
        online.input_finished()
        _ = np.stack([online.get_frame(i) for i in range(online.num_frames_ready)])


def ways_for(spec: LogMel | Mfcc, clips: np.ndarray) -> dict[str, Callable[[], object]]:
    """Everybody's way to the same feature."""
    import librosa

    transforms = torchaudio().transforms
    own = spec.analysis
    sizes = {"n_fft": own.n_fft, "win_length": own.win_length, "hop_length": own.hop_length}
    mels = {"n_mels": spec.bank.n_mels, **sizes}
    if isinstance(spec, Mfcc):
        theirs = transforms.MFCC(spec.sample_rate, spec.n_mfcc, melkwargs=mels)
        n_mfcc = spec.n_mfcc

        def by_librosa() -> None:
            for clip in clips:
                librosa.feature.mfcc(y=clip, sr=spec.sample_rate, n_mfcc=n_mfcc, **mels)
    else:
        theirs = torch.nn.Sequential(
            transforms.MelSpectrogram(spec.sample_rate, **mels),
            transforms.AmplitudeToDB("power", 80.0),
        )

        def by_librosa() -> None:
            for clip in clips:
                mel = librosa.feature.melspectrogram(y=clip, sr=spec.sample_rate, **mels)
                librosa.power_to_db(mel)

    tensor = torch.from_numpy(clips)
    frames = torch.randn(BATCH * own.frames(clips.shape[1]), own.n_fft)
    return {
        "shardwell": lambda: spec.apply(clips),
        "shardwell, clip by clip": lambda: [spec.apply(clip[None]) for clip in clips],
        "bare real FFT of the frames (torch)": lambda: torch.fft.rfft(frames),
        "torchaudio, batched": lambda: theirs(tensor.unsqueeze(1)),
        "torchaudio, clip by clip": lambda: [theirs(clip) for clip in tensor],
        "librosa": by_librosa,
        "kaldi-native-fbank": lambda: kaldi_one_by_one(clips, spec),
    }


ONE_CLIP = {
    "shardwell": "from pipeline import Mfcc; Mfcc.at(16000).apply(clip[None])",
    "torchaudio": (
        "import torch; from pipeline.importing import torchaudio;"
        "torchaudio().transforms.MFCC(16000, 40)(torch.from_numpy(clip))"
    ),
    "librosa": "import librosa; librosa.feature.mfcc(y=clip, sr=16000)",
    "kaldi-native-fbank": (
        "import kaldi_native_fbank as k; o = k.OnlineMfcc(k.MfccOptions());"
        "o.accept_waveform(16000, clip); o.input_finished(); o.get_frame(0)"
    ),
}


def start_up() -> None:
    """Print how long a whole process takes for the features of one clip."""
    print("\nOne clip, a process of its own: imports, tables, one second of audio\n")
    print("| way | seconds |\n|---|---|")
    clip = "import numpy as np; clip = np.zeros(16000, 'f4')\n"
    for name, code in {"Python and NumPy alone": "", **ONE_CLIP}.items():
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            command = [sys.executable, "-W", "ignore", "-c", clip + code]
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.perf_counter() - begin)
        print(f"| {name} | {min(times):.2f} |")


def run() -> None:
    """Print the tables."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    settings = {
        "MFCC 40 of 64 mels, 1 s at 16 kHz, 400/160": (
            Mfcc.at(16000),
            speech("speech_commands_v0.01_subset.tar.gz", 16000, 16000),
        ),
        "log-mel 80, 6.6 s at 22,050 Hz, 1024/256": (
            LogMel.at(22050, n_fft=1024, win_length=1024, hop_length=256, n_mels=80),
            speech("LJSpeech-1.1_subset.tar.bz2", 22050, int(6.6 * 22050)),
        ),
    }
    for title, (spec, clips) in settings.items():
        with threadpool_limits(1):
            found = timed(ways_for(spec, clips))
        print(f"\n{title} ({kernel.how(spec.analysis)})\n")
        print("| way | µs per clip | times shardwell |\n|---|---|---|")
        for name, microseconds in found.items():
            print(f"| {name} | {microseconds:.0f} | {microseconds / found['shardwell']:.2f} |")
    start_up()
