"""The reference trainer: consumes sealed datasets through the loader, as anyone's code would."""

from pipeline.train.folder import run_name
from pipeline.train.loop import Report, Trained, train
from pipeline.train.models import MODELS, Entry
from pipeline.train.settings import Settings, parse_options, settings_for
from pipeline.train.tasks import TASKS

__all__ = [
    "MODELS",
    "TASKS",
    "Entry",
    "Report",
    "Settings",
    "Trained",
    "parse_options",
    "run_name",
    "settings_for",
    "train",
]
