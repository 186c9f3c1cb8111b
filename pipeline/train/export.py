"""Saved model → ONNX, its features inside the graph, checked against what it says here."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipeline.errors import ModelError, UsageError
from pipeline.features.module import FeatureModule
from pipeline.files import written
from pipeline.train.checkpoint import Saved
from pipeline.train.fitting import feature_of, rebuilt
from pipeline.train.models.frames import Frames
from pipeline.train.onnx_gru import with_onnx_grus
from pipeline.train.predict import audio_of
from pipeline.train.recogniser import Recogniser

SECONDS = 1.0  # of the example that is traced, where clips have any length
BATCH = 2
TOLERANCE = 1e-3


class Whole(nn.Module):
    """A ``Recogniser`` of clips without padding."""

    def __init__(self, recogniser: Recogniser) -> None:
        super().__init__()
        self.recogniser = recogniser

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """(B, n) samples, or (B, T, F) features of what is not audio → (B, outputs) logits.

        Of a model for CTC (B, T', outputs).
        """
        lengths = torch.full((given.shape[0],), given.shape[1], dtype=torch.int64)
        output = self.recogniser(given, lengths)
        logits: torch.Tensor = output.logits if isinstance(output, Frames) else output
        return logits


def export_onnx(saved: Saved, path: Path) -> float:
    """Write a model as ONNX: raw samples go in, logits come out; the greatest difference seen.

    Clips in any number; of any length where the model's are. Sample rate and names of the outputs
    are in the file's metadata. A file that differs by more than 1e-3 from the model itself is not
    kept.

    Raises:
        UsageError: the libraries for it are not installed.
        ModelError: the model can't be exported, or differs.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  torch.onnx needs it, and says so at length
    except ImportError:
        raise UsageError(
            "export-onnx needs onnx: install with: pip install 'shardwell[onnx]'"
        ) from None
    model, examples = _whole(saved)
    own = saved.description
    rate = audio_of(own).sample_rate if own.audio is not None else 0
    free = dict.fromkeys(range(len(examples)), torch.export.Dim.DYNAMIC)  # clips, their length
    with _quiet():
        program = torch.onnx.export(
            with_onnx_grus(model) if len(free) > 1 else model,
            (examples[0],),
            dynamo=True,
            dynamic_shapes=(free,),
            verbose=False,
            input_names=["samples" if rate else "features"],
            output_names=["logits"],
        )
    if program is None:  # the exporter's older way gives none
        raise ModelError(f"{own.model}: the exporter gave no program; export it with another torch")
    program.model.metadata_props.update(
        {
            "sample_rate": str(rate),
            "target": own.target,
            "names": json.dumps(own.names),
        }
    )
    with written(path) as temporary:
        program.save(temporary)
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])
        difference = max(_difference(session, model, example) for example in examples)
        if not difference <= TOLERANCE:
            raise ModelError(
                f"{path}: onnxruntime differs by {difference:.2g}, expected at most {TOLERANCE}"
            )
    return difference


def _whole(saved: Saved) -> tuple[Whole, list[torch.Tensor]]:
    """A model that takes samples, or features of what is not audio; examples of what goes in.

    One example where its length is fixed; two of different lengths where it is open.
    """
    recogniser, own = rebuilt(saved), saved.description
    generator = torch.Generator().manual_seed(0)
    model = Whole(recogniser).eval()
    if own.audio is None:
        if own.shape[0] is None:
            raise ModelError(f"a {own.model} of {own.features['kind']} can't be exported: no audio")
        shape = [BATCH, *(int(n or 0) for n in own.shape)]
        return model, [torch.rand(shape, generator=generator)]
    recogniser.front = FeatureModule(feature_of(own), exportable=True)
    audio = audio_of(own)
    lengths = [audio.n_samples or round(SECONDS * audio.sample_rate)]
    if audio.n_samples is None:
        lengths.append(lengths[0] * 3 // 2)
    return model, [torch.rand(BATCH, n, generator=generator) - 0.5 for n in lengths]


@torch.inference_mode()
def _difference(session: Any, model: Whole, example: torch.Tensor) -> float:
    """The greatest, between the file's answer and the model's."""
    (found,) = session.run(None, {session.get_inputs()[0].name: example.numpy()})
    return float((torch.from_numpy(found) - model(example)).abs().max())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch.onnx has much to say about its own insides, in three ways."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
