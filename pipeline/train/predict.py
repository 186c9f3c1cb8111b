"""What a saved model says about audio files: whole, or heard as a stream."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.audio import Audio, load_audio
from pipeline.errors import ClipError, ModelError, UsageError
from pipeline.features import Waveform
from pipeline.features.module import FeatureModule
from pipeline.features.options import from_flat
from pipeline.loader import Dataset
from pipeline.records import Piece
from pipeline.train import transcription
from pipeline.train.checkpoint import Description, Saved
from pipeline.train.device import device_of
from pipeline.train.evaluation import Evaluation, evaluate
from pipeline.train.fitting import (
    UNFIT,
    check_classes,
    check_fits,
    check_lengths,
    feature_of,
    in_words,
    rebuilt,
)
from pipeline.train.frames import Framing
from pipeline.train.fusion import Fusion
from pipeline.train.models import entry
from pipeline.train.models.crnn import Crnn
from pipeline.train.models.crnn_ctc import CrnnCtc
from pipeline.train.recogniser import Recogniser
from pipeline.train.tasks import TASKS, Task


@dataclass(frozen=True)
class Prediction:
    """A file's likeliest answers with their probabilities; or what is wrong with the file."""

    file: str
    best: Sequence[tuple[str, float]]
    problem: str | None = None


@dataclass(frozen=True)
class Heard:
    """What a stream says after a chunk: seconds of audio heard, the likeliest answers so far."""

    seconds: float
    best: Sequence[tuple[str, float]]


def hearing(saved: Saved) -> Recogniser:
    """The model of a checkpoint with its features before it: (B, n) samples and lengths go in.

    Raises:
        ModelError: it was not trained on audio, or the checkpoint is damaged.
    """
    recogniser = rebuilt(saved)
    if saved.description.audio is None:
        kind = saved.description.features.get("kind")
        raise ModelError(f"this {saved.description.model} was trained on {kind}, not on audio")
    if recogniser.front is None:
        recogniser.front = FeatureModule(feature_of(saved.description))
    return recogniser


def audio_of(description: Description) -> Audio:
    """How clips become samples.

    Raises:
        ModelError: the description does not tell.
    """
    try:
        audio: Audio = from_flat(Audio, description.audio or {})
    except UNFIT as error:
        raise ModelError(
            f"a saved {description.model}: {in_words(error)}; train it again"
        ) from None
    return audio


def read_clip(file: Path, audio: Audio) -> torch.Tensor:
    """A file's samples as in training, (1, n) float32: resampled, cut or padded, levelled.

    Raises:
        ClipError: there is no such file, or it can't be used as audio.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ClipError(f"{error.strerror}") from None
    samples = load_audio([Piece(memoryview(data))], audio)
    return torch.from_numpy(np.ascontiguousarray(samples, np.float32)).unsqueeze(0)


def reading(saved: Saved, data: Dataset) -> Recogniser:
    """The model of a checkpoint for what a dataset holds: features as in training, or waveforms.

    Raises:
        ModelError: the dataset is not like the one that it was trained on; says in what.
    """
    check_fits(saved.description, data)
    hears = saved.description.audio is not None and isinstance(data.sealed.feature, Waveform)
    return hearing(saved) if hears else rebuilt(saved)


def evaluated(saved: Saved, data: Dataset, split: str, device: str = "auto") -> Evaluation:
    """The scores of a saved model on a split, as training tells them, computed on a device.

    Raises:
        UsageError: there is no such device here, or an example has no class.
        ModelError: the dataset is not like the one that it was trained on; says in what.
        UnknownNameError: there is no such split.
        ClipError: a clip is too short for the model's features; named.
    """
    own, where = saved.description, device_of(device)
    recogniser = reading(saved, data).to(where)
    check_classes(data, split, own.target)
    check_lengths(recogniser, data[split])
    return evaluate(recogniser, task_of(saved), data[split], own.target, own.names, where)


def task_of(saved: Saved, fusion: Fusion | None = None) -> Task:
    """What a model was trained for; with a language model, transcripts are the best by both.

    Raises:
        UsageError: a language model for one that does not transcribe.
    """
    task = TASKS[entry(saved.description.model).task]
    if fusion is None:
        return task
    if task.label != "text":
        raise UsageError(
            f"a language model: expected a model that transcribes, got {saved.description.model}"
        )
    return replace(
        task,
        best=partial(transcription.best, fusion=fusion),
        follow=partial(transcription.follow, fusion=fusion),
    )


@torch.inference_mode()
def predict(
    saved: Saved, files: Sequence[Path], most: int, fusion: Fusion | None = None
) -> Iterator[Prediction]:
    """One prediction per file, in order; a file that can't be used ends nothing.

    Raises:
        ModelError: the model is not for audio.
        UsageError: a language model for one that does not transcribe.
    """
    task, names = task_of(saved, fusion), saved.description.names
    recogniser, audio = hearing(saved), audio_of(saved.description)
    for file in files:
        try:
            samples = read_clip(file, audio)
            output = recogniser(samples, torch.tensor([samples.shape[1]]))
        except ClipError as error:
            yield Prediction(str(file), (), str(error))
        else:
            yield Prediction(str(file), task.best(output, names, most)[0])


@torch.inference_mode()
def stream(
    saved: Saved, file: Path, chunk: float, most: int, fusion: Fusion | None = None
) -> Iterator[Heard]:
    """Hear a file in chunks of so many seconds, as they would come from a microphone.

    Nothing is computed twice: the front end keeps the samples that the next frame needs, the model
    its state, the search for a transcript its beam. The last answer is that of ``predict`` to
    rounding.

    Raises:
        UsageError: a language model for one that does not transcribe.
        ModelError: the model hears clips as a whole, or its features or audio need the whole clip.
        ClipError: the file can't be used.
    """
    task, names, before = task_of(saved, fusion), saved.description.names, None
    recogniser, audio = hearing(saved), audio_of(saved.description)
    model = recogniser.model
    if not isinstance(model, Crnn | CrnnCtc) or not model.streams:
        advice = "crnn_ctc" if task.label == "text" else "crnn"
        raise ModelError(
            f"this {saved.description.model} hears a clip as a whole; what can hear a stream: "
            f"shardwell train DIR --model {advice} --options bidirectional=false"
        )
    plain = replace(Audio(audio.sample_rate), duration=audio.duration)
    if audio != plain:
        raise ModelError("its clips are trimmed, filtered or levelled as a whole: no stream can be")
    framing = Framing(feature_of(saved.description))
    samples = read_clip(file, audio)
    n = samples.shape[1]
    size = max(round(min(chunk * audio.sample_rate, n)), 1)
    state: Any = model.begin(samples.new_zeros(1, 0, int(saved.description.shape[1] or 0)))
    for begin in range(0, n, size):
        end = min(begin + size, n)
        features = recogniser.normalized(framing.hear(samples[:, begin:end], last=end == n))
        output, state = model.hear(features, state)
        before, best = task.follow(before, output, names, most)
        yield Heard(end / audio.sample_rate, best)
