"""What a training batch goes through before the model: the loader's augmentation, the features.

Every draw is a function of the seed, the epoch and the example (``pipeline.loader.draws``), so a
run that goes on draws what it would have drawn.
"""

from collections.abc import Callable

from pipeline.errors import UsageError
from pipeline.loader import Dataset, Split
from pipeline.loader.augment import Noise, SpecAugment, TimeShift
from pipeline.loader.split import Batch
from pipeline.train.recogniser import Recogniser

AUGMENTATIONS = ("shift", "noise", "mask")
SHIFT = 0.1  # of the length, to either side
SNR = (0.0, 25.0)  # dB
HIDDEN_FRAMES, HIDDEN_BINS = 0.2, 0.18  # share of a clip that one mask hides at most
NOISE = "noise"  # the split whose recordings are mixed in

Step = Callable[[Batch], Batch]


def applicable(
    asked: tuple[str, ...] | None, usual: tuple[str, ...], data: Dataset, hears: bool
) -> tuple[str, ...]:
    """What is done: what was asked for, else as much of the usual as the dataset allows.

    ``hears`` tells whether the model computes its features from samples.

    Raises:
        UsageError: what was asked for can't be done with this dataset.
    """
    kind = data.sealed.feature.kind
    problems: dict[str, str] = {}
    if kind == "tokens":
        problems = dict.fromkeys(AUGMENTATIONS, "tokens are not augmented")
    elif not hears:
        problems[NOISE] = (
            f"noise is mixed into samples, this dataset holds {kind}; "
            "prepare one with --features waveform"
        )
    elif not data.get(NOISE):
        problems[NOISE] = "this dataset has no split of noise"
    for name in asked or ():
        if name in problems:
            raise UsageError(f"augment={name}: {problems[name]}")
    return tuple(name for name in usual if name not in problems) if asked is None else asked


def steps(names: tuple[str, ...], noise: Split | None, recogniser: Recogniser) -> list[Step]:
    """The loader's ``transform``: what the model sees, (B, T, F), comes out.

    Samples are shifted and mixed with noise before features are computed of them; features that
    are stored are shifted once they are normalised, for then silence is no longer far from zero.
    """

    def prepared(batch: Batch) -> Batch:
        features, lengths = recogniser.prepared(batch["features"], batch["lengths"])
        return batch | {"features": features, "lengths": lengths}

    shift: list[Step] = [TimeShift(SHIFT)] if "shift" in names else []
    mixed: list[Step] = [Noise(noise, *SNR)] if "noise" in names and noise is not None else []
    masked: list[Step] = []
    if "mask" in names:
        bins = len(recogniser.mean)
        masked = [SpecAugment(freq_width=round(HIDDEN_BINS * bins), p=HIDDEN_FRAMES)]
    if recogniser.front is None:
        return [prepared, *shift, *masked]
    return [*shift, *mixed, prepared, *masked]
