"""The training loop: batches, steps, evaluations, checkpoints; goes on where a run was cut off."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from pipeline.errors import TrainingError
from pipeline.loader import Split, open_dataset
from pipeline.train import folder as runs
from pipeline.train import pictures
from pipeline.train.checkpoint import BEST, LAST, load
from pipeline.train.device import accelerated, own_draws, seed_step, share_buffers
from pipeline.train.evaluation import Evaluation, evaluate, on
from pipeline.train.fitting import describe
from pipeline.train.run import Run, begin, keep
from pipeline.train.settings import Settings

LOOKED_BACK = 1000  # examples of train whose score is told, unless validation has more
SHOWN_KEYS = 8


@dataclass(frozen=True)
class Report:
    """An evaluation while training.

    Attributes:
        epoch: how many have begun.
        loss: mean over the steps since the last evaluation, over all processes.
        train: scores on the first examples of train, as many as are held out or 1,000.
        held_out: scores on what chooses the best model; None without that split.
        watch: the score among them that tells the best.
    """

    epoch: int
    step: int
    loss: float
    train: Mapping[str, float]
    held_out: Mapping[str, float] | None
    watch: str


@dataclass(frozen=True)
class Trained:
    """The end of a run: the best model's scores on test; None without that split.

    ``main`` is False in all processes but one.
    """

    folder: Path
    test: Evaluation | None
    names: tuple[str, ...]
    watch: str
    parameters: int
    steps: int
    main: bool


def train(
    where: str | Path,
    settings: Settings,
    out: str | Path,
    tell: Callable[[Report], object] = lambda report: None,
    cache: Path | None = None,
    bars: bool = False,
) -> Trained:
    """Train a model on a dataset; the same call again goes on where it was cut off.

    The same settings on the same dataset give the same weights, bit for bit on a CPU. ``out`` is a
    folder that gets settings.json, log.jsonl and the checkpoints best and last; ``tell`` is called
    with each evaluation.

    Raises:
        UsageError: settings that don't fit the dataset, or ``out`` holds another run.
        TrainingError: the loss is no number any more.
        DatasetError: not a sealed dataset.
        RemoteError: the store of a dataset at a URL can't be read.
    """
    data = open_dataset(where, key=True, cache=cache)
    description = describe(data, settings)
    with (
        accelerated(settings.device, settings.precision) as accelerator,
        own_draws(accelerator.device),
    ):
        run = begin(data, description, settings, Path(out), accelerator)
        while not run.progress.finished:
            for batch in tqdm(run.loader, leave=False, disable=None if bars else True):
                _step(run, batch)
                report = _afterwards(run)
                if report and accelerator.is_main_process:
                    tell(report)
                if run.progress.finished:
                    break
        accelerator.wait_for_everyone()
        return _end(run)


def learning_rate(settings: Settings, step: int, per_epoch: int) -> float:
    """The rate of a step, the first being 0: a function of its number, so nothing of it is saved.

    It rises in a line over the warm-up, then stays, or falls along half a cosine to 0.
    """
    total = settings.epochs * per_epoch
    rising = settings.warmup * total
    if step < rising:
        return settings.lr * (step + 1) / rising
    if settings.schedule == "constant":
        return settings.lr
    done = (step - rising) / max(total - rising, 1)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * done))


def _step(run: Run, batch: Mapping[str, Any]) -> None:
    """One step of the optimizer."""
    settings, progress = run.settings, run.progress
    seed_step(settings.seed, progress.step, run.accelerator.process_index)
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(settings, progress.step, len(run.loader))
    run.model.train()
    column = batch[run.description.target]
    output = run.model(batch["features"], batch["lengths"])
    wanted = on(run.task.targets(column, run.description.names), run.accelerator.device)
    loss = run.task.loss(output, wanted, settings.smoothing, batch["key"])
    run.optimizer.zero_grad()
    run.accelerator.backward(loss)
    norm = run.accelerator.clip_grad_norm_(run.model.parameters(), settings.clip or math.inf)
    own = loss.detach().double() * len(column)
    both = torch.stack([own, own.new_tensor(len(column))])
    total, count = run.accelerator.reduce(both, "sum").tolist()  # of all processes
    if not (math.isfinite(total) and math.isfinite(float(norm))):
        raise _no_number(run, total / count, float(norm), batch["key"])
    run.optimizer.step()
    progress.step += 1
    progress.loss_sum += total
    progress.seen += int(count)
    progress.loader = run.loader.state_dict()


def _no_number(run: Run, loss: float, norm: float, keys: Sequence[str]) -> TrainingError:
    """The error of a step whose loss or gradient is no number; all of its keys are in the log.

    Both are the same in all processes, so all of them come here.
    """
    if run.accelerator.num_processes > 1:
        from accelerate.utils import gather_object

        keys = gather_object(list(keys))
    step, told = run.progress.step + 1, {"loss": str(loss), "norm": str(norm)}
    if run.accelerator.is_main_process:
        runs.log(run.folder, what="no number", step=step, **told, keys=list(keys))
    run.accelerator.wait_for_everyone()  # a launcher ends the others as soon as one has failed
    more = f" and {len(keys) - SHOWN_KEYS} more" if len(keys) > SHOWN_KEYS else ""
    return TrainingError(
        f"step {step}: the loss is {loss}, the gradient's norm {norm}, on "
        f"{', '.join(keys[:SHOWN_KEYS])}{more}; the last good weights are in {run.folder / LAST}; "
        "try a smaller --lr, or --clip 1"
    )


def _afterwards(run: Run) -> Report | None:
    """After a step: evaluate and save if it is time to."""
    settings, progress, per_epoch = run.settings, run.progress, len(run.loader)
    over = progress.step >= settings.epochs * per_epoch
    report = None
    if over or progress.step % (settings.eval_every or per_epoch) == 0:
        report = _evaluated(run)
        enough = settings.patience is not None and progress.stale >= settings.patience
        progress.finished = over or enough
    due = settings.save_every and progress.step % settings.save_every == 0
    if (report or due) and run.accelerator.is_main_process:
        keep(run, LAST)
    return report


def _evaluated(run: Run) -> Report:
    """Scores on train and on what is held out; a better model than before is kept as the best."""
    settings, progress = run.settings, run.progress
    share_buffers(run.recogniser.model)
    held_out = run.data.get(settings.eval_split)
    if held_out and settings.eval_examples:
        held_out = held_out[: settings.eval_examples]
    most = max(LOOKED_BACK, len(held_out) if held_out else 0)
    seen = _evaluate(run, run.data["train"][:most])
    found = _evaluate(run, held_out) if held_out else None
    watch, loss = run.task.watch, progress.loss_sum / max(progress.seen, 1)
    value = (found or seen).scores[watch]
    better = progress.best is None or (
        value > progress.best if run.task.highest else value < progress.best
    )
    progress.loss_sum, progress.seen = 0.0, 0
    progress.stale = 0 if better else progress.stale + 1
    report = Report(
        -(-progress.step // len(run.loader)),
        progress.step,
        loss,
        seen.scores,
        found.scores if found else None,
        watch,
    )
    if better:
        progress.best = value
    if run.accelerator.is_main_process:
        if better:
            keep(run, BEST)
        losses = {"train_loss": seen.loss, "held_out_loss": found.loss if found else None}
        runs.log(run.folder, what="evaluation", **asdict(report), **losses)
    return report


def _evaluate(run: Run, split: Split) -> Evaluation:
    own, accelerator = run.description, run.accelerator
    return evaluate(
        run.recogniser,
        run.task,
        split,
        own.target,
        own.names,
        accelerator.device,
        accelerator.process_index,
        accelerator.num_processes,
    )


def _end(run: Run) -> Trained:
    """The best model's scores on test."""
    run.recogniser.load_state_dict(dict(load(run.folder, BEST).weights))
    test = run.data.get("test")
    found = _evaluate(run, test) if test else None
    if run.accelerator.is_main_process:
        scores = found.scores if found else None
        runs.log(run.folder, what="end", step=run.progress.step, test=scores)
        pictures.draw(run.folder, run.description, found, test, run.recogniser)
    return Trained(
        run.folder,
        found,
        run.description.names,
        run.task.watch,
        sum(p.numel() for p in run.recogniser.parameters()),
        run.progress.step,
        run.accelerator.is_main_process,
    )
