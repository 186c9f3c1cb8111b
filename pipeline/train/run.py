"""``Run``: all that a step touches; how it begins, goes on, and is saved."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pipeline.errors import ModelError, UsageError
from pipeline.loader import Dataset, make_loader
from pipeline.loader.delivery import Loader
from pipeline.train import folder as runs
from pipeline.train.augmenting import NOISE, steps
from pipeline.train.checkpoint import (
    LAST,
    Description,
    Saved,
    optimizer_tensors,
    restore_optimizer,
    save,
    typed,
)
from pipeline.train.device import add_up_in_order
from pipeline.train.fitting import UNFIT, build, in_words, statistics
from pipeline.train.models import entry
from pipeline.train.recogniser import Recogniser
from pipeline.train.settings import Settings
from pipeline.train.tasks import TASKS, Task

if TYPE_CHECKING:
    from accelerate import Accelerator

MOMENTUM = 0.9


@dataclass
class Progress:
    """Where a run is, all of it in plain values; kept in every checkpoint."""

    step: int = 0
    loader: Mapping[str, Any] | None = None
    loss_sum: float = 0.0
    seen: int = 0
    best: float | None = None
    stale: int = 0
    finished: bool = False


@dataclass
class Run:
    """All that a step touches."""

    settings: Settings
    description: Description
    task: Task
    data: Dataset
    folder: Path
    accelerator: "Accelerator"
    recogniser: Recogniser
    model: torch.nn.Module  # the recogniser's own, as Accelerate wraps it
    optimizer: torch.optim.Optimizer
    loader: Loader
    progress: Progress


def begin(
    data: Dataset,
    description: Description,
    settings: Settings,
    folder: Path,
    accelerator: "Accelerator",
) -> Run:
    """A run at its beginning, or where its last checkpoint says.

    Raises:
        UsageError: the folder holds another run, or processes can't share a batch.
        ModelError: nobody can go on from the last checkpoint.
    """
    share, rest = divmod(settings.batch_size, accelerator.num_processes)
    if rest:
        raise UsageError(
            f"batch_size={settings.batch_size}: expected a multiple of the "
            f"{accelerator.num_processes} processes that share it"
        )
    torch.manual_seed(settings.seed)
    recogniser = build(description, *statistics(data, description)).to(accelerator.device)
    optimizer = _optimizer(recogniser, settings)
    loader = make_loader(
        data["train"],
        share,
        shuffle=True,
        seed=settings.seed,
        window=settings.window,
        num_workers=settings.workers,
        pin_memory=accelerator.device.type == "cuda",
        transform=steps(description.settings["augment"], data.get(NOISE), recogniser),
        device=accelerator.device,
    )
    what = runs.recorded(data, settings)
    saved = runs.begun(folder, what)  # every process looks: where it is refused, all of them end
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        runs.record(folder, what)
    model, prepared = accelerator.prepare(recogniser.model, optimizer)
    add_up_in_order(model)
    progress = (
        _resumed(saved, folder, share, recogniser, optimizer, loader) if saved else Progress()
    )
    run = Run(
        settings,
        description,
        TASKS[entry(settings.model).task],
        data,
        folder,
        accelerator,
        recogniser,
        model,
        prepared,
        loader,
        progress,
    )
    if accelerator.is_main_process:
        runs.cut_log(folder, progress.step)
        if not saved:
            keep(run, LAST)
    return run


def _resumed(
    saved: Saved,
    folder: Path,
    share: int,
    recogniser: Recogniser,
    optimizer: torch.optim.Optimizer,
    loader: Loader,
) -> Progress:
    """Where a run's last checkpoint was; model, optimizer and loader are put there."""
    try:
        progress = typed(Progress, saved.progress)
        recogniser.load_state_dict(dict(saved.weights))
        restore_optimizer(optimizer, saved.optimizer)
        if progress.loader is not None:
            loader.load_state_dict(_shared(progress.loader, share))
    except UNFIT as error:
        raise ModelError(
            f"{folder / LAST}: can't go on from it: {in_words(error)}; "
            "remove the run's folder, or choose another --out"
        ) from None
    return progress


def _shared(state: Mapping[str, Any], share: int) -> Mapping[str, Any]:
    """A loader's state, for processes that have ``share`` examples of each step.

    However many they are, a step sees the same examples, so that a place is one for any number of
    them. But windows make other batches for other shares: then only an epoch's begin is.

    Raises:
        UsageError: in the midst of an epoch of windows.
    """
    source = state.get("made_from")
    before = source.get("batch_size") if isinstance(source, dict) else None
    if source is None or before in (None, share):
        return state  # as it is, or damaged: the loader says how
    if state["batch"] and source["window"] is not None:
        raise UsageError(
            f"it is in the midst of an epoch that window={source['window']} cut into batches of "
            f"{before} per process, now {share}, so that only as many processes as before can"
        )
    batch = state["batch"] * before // share
    return {**state, "batch": batch, "made_from": {**source, "batch_size": share}}


def _optimizer(model: torch.nn.Module, settings: Settings) -> torch.optim.Optimizer:
    own, decay = model.parameters(), settings.weight_decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(own, settings.lr, momentum=MOMENTUM, weight_decay=decay)
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(own, settings.lr, weight_decay=decay)


def keep(run: Run, name: str) -> None:
    """Save a run as its best or its last; the best needs no optimizer: nobody goes on from it."""
    optimizer = optimizer_tensors(run.optimizer) if name == LAST else {}
    progress = asdict(run.progress)
    save(
        run.folder / name, Saved(run.description, run.recogniser.state_dict(), optimizer, progress)
    )
