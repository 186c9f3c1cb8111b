"""The reference trainer: consumes sealed datasets through the loader, as anyone's code would."""

from pipeline.train.loop import Epoch, Settings, Trained, train
from pipeline.train.models import MODELS

__all__ = ["MODELS", "Epoch", "Settings", "Trained", "train"]
