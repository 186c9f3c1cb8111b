"""One clip from a tar.gz to a batch, held against torchaudio computed straight from the clip."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import soundfile
import torch

from pipeline import make_loader, open_dataset, prepare_dataset
from pipeline.prepare import Request


def test_one_clip_from_archive_to_batch(
    ask_commands: Callable[..., Request], commands_archive: Path, torchaudio: ModuleType
) -> None:
    folder = prepare_dataset(ask_commands(engine="local", workers=2)).folder
    data = open_dataset(folder, key=True)
    transform = torchaudio.transforms.MFCC(
        16000, 40, melkwargs={"n_fft": 400, "hop_length": 160, "n_mels": 64}
    )
    seen = 0
    with tarfile.open(commands_archive) as tar:
        for split in data.values():
            for batch in make_loader(split, 2, shuffle=True, seed=4):
                for key, features, word in zip(
                    batch["key"], batch["features"], batch["word"], strict=True
                ):
                    member = tar.extractfile(f"./{key}.wav")
                    assert member
                    clip, rate = soundfile.read(io.BytesIO(member.read()), dtype="float32")
                    assert rate == 16000
                    second = np.pad(clip, (0, 16000 - len(clip)))
                    expected = transform(torch.from_numpy(second)).T
                    torch.testing.assert_close(features, expected, atol=2e-3, rtol=1e-4)
                    assert split.classes["word"][word] == key.partition("/")[0]
                    seen += 1
    assert seen == 15
