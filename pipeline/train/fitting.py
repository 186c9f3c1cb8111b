"""Whether a model and a dataset fit each other, and the ``Recogniser`` that comes of them."""

from typing import Any

import numpy as np
import torch

from pipeline.dataset import Sealed
from pipeline.errors import ClipError, ModelError, UsageError, unknown_name
from pipeline.features import Feature, Tokens, Waveform, from_dict, parse, to_dict
from pipeline.features.module import FeatureModule
from pipeline.loader import Dataset, Split, make_loader
from pipeline.loader.serving import serving
from pipeline.moments import mean_and_std, merge, of_values
from pipeline.train.augmenting import applicable
from pipeline.train.checkpoint import Description, Saved
from pipeline.train.models import MODELS, Entry, entry, make
from pipeline.train.recogniser import Recogniser
from pipeline.train.settings import Settings
from pipeline.train.tasks import TASKS, Task

# What torch and we say of parts that are not each other's.
UNFIT = (RuntimeError, TypeError, ValueError, AttributeError, KeyError, UsageError)
ENOUGH = 4096  # examples whose features tell mean and variance


def describe(data: Dataset, settings: Settings) -> Description:
    """What training a model on a dataset will make.

    Raises:
        UsageError: they don't fit; says which models do.
    """
    sealed, chosen = data.sealed, entry(settings.model)
    if not data.get("train"):
        raise UsageError("this dataset has no train split")
    target = _target(sealed, settings, TASKS[chosen.task])
    problem = _misfit(chosen, sealed, target)
    if problem:
        fitting = [name for name, e in MODELS.items() if not _misfit(e, sealed, target)]
        advice = (
            f"what fits it: {', '.join(fitting)}"
            if fitting
            else "no model fits it: prepare other features"
        )
        raise UsageError(f"{settings.model} needs {problem}; {advice}")
    for split in dict.fromkeys(("train", settings.eval_split, "test")):
        check_classes(data, split, target)
    hears = isinstance(sealed.feature, Waveform) and chosen.takes == "frames"
    if settings.features and not hears:
        raise UsageError(
            f"features={settings.features}: this dataset holds {sealed.feature.kind} already; "
            "features are computed while training where it holds waveforms"
        )
    feature, shape = sealed.feature, sealed.columns.shape
    if isinstance(sealed.feature, Waveform) and hears:
        feature = parse(settings.features or chosen.features, sealed.feature.sample_rate)
        shape = feature.shape(shape[0])
        FeatureModule(feature)  # refuses what can't be computed here
    augment = applicable(settings.augment, chosen.augment, data, hears)
    return Description(
        model=settings.model,
        options={**chosen.options, **settings.options},
        target=target,
        names=TASKS[chosen.task].names(sealed, target),
        features=to_dict(feature),
        shape=tuple(shape),
        audio=sealed.info.get("audio"),
        hears=hears,
        dataset={name: sealed.info[name] for name in ("recipe", "protocol")},
        settings=settings.to_dict() | {"augment": list(augment)},
    )


def _target(sealed: Sealed, settings: Settings, task: Task) -> str:
    known = [name for name, kind in sealed.columns.labels.items() if kind == task.label]
    target = settings.target or sealed.info["hints"].get("target", "")
    if settings.target and target not in known:
        raise unknown_name(f"{task.label} label", target, known)
    if not target and known:
        raise UsageError(f"this dataset hints at no target: choose --target {known[0]}")
    return str(target)


def _misfit(chosen: Entry, sealed: Sealed, target: str) -> str | None:
    """What a model needs and a dataset lacks, in words; None where they fit."""
    label, kind = TASKS[chosen.task].label, sealed.columns.labels.get(target, "missing")
    if kind != label:
        return f"a {label} label to learn, but {target or 'the target'} is {kind}"
    shape = sealed.columns.shape
    shown = "×".join("any" if n is None else str(n) for n in shape)
    has = f"{sealed.feature.kind} of this dataset are {shown}"
    if (chosen.takes == "tokens") != isinstance(sealed.feature, Tokens):
        wanted = "tokens" if chosen.takes == "tokens" else "features of (frames, bins)"
        return f"{wanted}, but {has}"
    if isinstance(sealed.feature, Waveform):
        return None if shape[0] else f"clips of one length: prepare with duration=…, but {has}"
    if chosen.takes == "frames" and (len(shape) != 2 or (shape[1] or 0) < chosen.bins):
        return f"features of (frames, bins), {chosen.bins} bins or more, but {has}"
    return None


def feature_of(description: Description) -> Feature:
    """The feature that a model sees."""
    return from_dict(description.features)


def build(description: Description, mean: Any, factor: Any) -> Recogniser:
    """The model that a description stands for; its weights are drawn from torch's generator.

    ``mean`` and ``factor`` are (bins,) tensors, or None where nothing is normalised.

    Raises:
        UsageError: its options are not the model's.
    """
    feature = feature_of(description)
    bins = feature.vocabulary if isinstance(feature, Tokens) else int(description.shape[1] or 0)
    model = make(description.model, bins, len(description.names), description.options)
    front = FeatureModule(feature) if description.hears else None
    return Recogniser(model, mean, factor, front)


def rebuilt(saved: Saved) -> Recogniser:
    """The model of a checkpoint, to be used: in evaluation mode.

    Raises:
        ModelError: the description makes no model, or the weights are not that model's.
    """
    own, weights = saved.description, saved.weights
    try:
        _check_own(own)
        recogniser = build(own, weights.get("mean"), weights.get("factor"))
        recogniser.load_state_dict(dict(weights))
    except UNFIT as error:
        raise ModelError(f"a saved {own.model}: {in_words(error)}; train it again") from None
    return recogniser.eval()


def in_words(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split())


def _check_own(description: Description) -> None:
    """Raise ValueError where a description contradicts itself, which torch would tell too late."""
    kept, wanted = description.shape, feature_of(description).shape(None)
    if len(kept) != len(wanted) or any(
        w not in (None, k) for w, k in zip(wanted, kept, strict=True)
    ):
        raise ValueError(f"features of shape {list(kept)}: expected {list(wanted)}")
    if not description.names:
        raise ValueError("names=[]: expected one for each output")


def statistics(data: Dataset, description: Description) -> tuple[Any, Any]:
    """Mean and factor that normalise features to mean 0 and variance 1 over train; None for tokens.

    Where the model computes its features, they are those of the first 4,096 clips as stored.
    """
    if isinstance(feature_of(description), Tokens):
        return None, None
    if not description.hears:
        own = serving(data.sealed, normalize=True)
        return torch.from_numpy(own.mean), torch.from_numpy(own.factor)
    mean, std = _measured(data["train"], feature_of(description))
    return mean, torch.where(std > 0, 1 / std.clamp(min=1e-12), 1.0)


@torch.no_grad()
def _measured(split: Split, feature: Feature) -> tuple[torch.Tensor, torch.Tensor]:
    """(bins,) mean and standard deviation of features computed from a split's first clips."""
    front, parts = FeatureModule(feature), []
    # All of them in every process: each must scale by the same.
    for batch in make_loader(split[:ENOUGH], batch_size=64, rank=0, world_size=1):
        values = front(batch["features"]).numpy()
        parts.append(of_values([values], values.shape[-1]).to_dict())
    moments = merge(parts)
    mean, std = mean_and_std(moments) if moments else ([0.0], [1.0])
    return torch.tensor(np.array(mean, np.float32)), torch.tensor(np.array(std, np.float32))


def check_classes(data: Dataset, split: str, target: str) -> None:
    """Raise UsageError where an example of a split, if there is one, has no class to be told by."""
    part, sealed = data.get(split), data.sealed
    if not part or sealed.columns.labels[target] != "class":
        return
    none = int((part.column(target) < 0).sum())
    if none:
        raise UsageError(
            f"{sealed.folder}: {none:,} of {len(part):,} examples of {split} have no {target}; "
            "prepare it without them, or take another --target"
        )


def check_lengths(recogniser: Recogniser, split: Split) -> None:
    """Raise ClipError where a clip has too few samples for one frame of a model's features."""
    front = recogniser.front
    if front is None or isinstance(front.feature, Waveform):
        return  # what the split holds is what the model sees
    least, lengths = front.feature.analysis.shortest, split.column("lengths")
    short = np.flatnonzero(lengths < least)
    if len(short):
        key, kind = split.select(short[:1]).column("key")[0], front.feature.kind
        raise ClipError(
            f"{split.sealed.folder}: {split.name}: {key} is too short for the model's {kind}: "
            f"expected {least} samples or more, got {lengths[short[0]]} "
            f"(too short: {len(short):,} of {len(split):,} clips); "
            f"take a dataset of {kind}, prepared with --max-bad: it is without such clips"
        )


def check_fits(description: Description, data: Dataset) -> None:
    """Raise unless a saved model can be asked about a dataset.

    One of waveforms fits whatever the model's features are: these are computed from the samples.

    Raises:
        ModelError: another feature, audio or target; says where they differ.
    """
    sealed, wanted = data.sealed, description.features
    got = dict(sealed.info["features"])
    if isinstance(sealed.feature, Waveform) and description.audio is not None:
        wanted = got
    elif description.hears:
        raise ModelError(
            f"{sealed.folder}: the model computes its features from samples, this dataset holds "
            f"{sealed.feature.kind}; prepare one with --features waveform"
        )
    pairs = {"": (wanted, got), "audio ": (description.audio or {}, sealed.info.get("audio") or {})}
    for what, (own, other) in pairs.items():
        for name in [*own, *(n for n in other if n not in own)]:
            if own.get(name) != other.get(name):
                raise ModelError(
                    f"{sealed.folder}: the model was trained with {what}{name}={own.get(name)}, "
                    f"this dataset has {what}{name}={other.get(name)}; prepare one like the model's"
                )
    _check_names(description, sealed)


def _check_names(description: Description, sealed: Sealed) -> None:
    """Raise unless a dataset's target is the model's, with the same classes."""
    target, own = description.target, description.names
    if target not in sealed.columns.labels:
        known = ", ".join(sealed.columns.labels) or "no labels"
        raise ModelError(f"{sealed.folder}: the model tells {target}, this dataset has {known}")
    names = sealed.classes.get(target, own)
    if names != own:
        odd = ", ".join(sorted(set(names) ^ set(own))[:5]) or "their order"
        raise ModelError(
            f"{sealed.folder}: the model tells {len(own)} classes apart, this dataset has "
            f"{len(names)}; they differ by {odd}"
        )
