"""Augmentation: callables on a batch, each drawing from its examples' ``seeds`` alone.

What happens to an example depends on (seed, epoch, its index) and on no other example, worker or
rank; but for ``Mixup``, which needs a partner from the batch. Two of one kind in a list draw alike.
"""

from pipeline.loader.augment.features import Mixup, SpecAugment
from pipeline.loader.augment.tempo import Pitch, Speed
from pipeline.loader.augment.waveforms import Gain, Noise, TimeShift
from pipeline.loader.draws import uniform

__all__ = ["Gain", "Mixup", "Noise", "Pitch", "SpecAugment", "Speed", "TimeShift", "uniform"]
