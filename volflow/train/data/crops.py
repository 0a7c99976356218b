"""Crops that a step of a training learns from, changed at random, and what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from volflow.core.geometry import Triple
from volflow.segment.descriptors import CHANNELS, descriptors, reach
from volflow.train.config.training import Training
from volflow.train.data.augment import augmented
from volflow.train.data.mixing import cutmix_window, frequency_mixed
from volflow.train.data.samples import UNKNOWN, UNKNOWN_MARK, Sample, Source, draw
from volflow.train.losses import affinity_targets


class Crops(NamedTuple):
    """What a step learns from; without the axis B, a crop of it.

    image : float32 tensor, (B, 1, Z, Y, X)
    target, valid : bool tensor, (B, K, Z, Y, X)
        Channels of yes or no (affinities, foreground, masks), and where they are known.
    shapes : float32 tensor, (B, 10 or 0, Z, Y, X)
        Local shape descriptors of the truth, none if they are not learnt.
    described : bool tensor, (B, 1, Z, Y, X)
        Where they are known.
    """

    image: Tensor
    target: Tensor
    valid: Tensor
    shapes: Tensor
    described: Tensor

    def to(self, device: str) -> Crops:
        """The same on a device."""
        return Crops(*(part.to(device) for part in self))


def batch(sources: Sequence[Source], training: Training, number: int) -> Crops:
    """The crops of a step: a function of the seed and the step's number."""
    made = []
    shown = training.model_copy(update={"augmentation": training.augmentation_at(number)})
    for place in range(training.batch):
        rng = np.random.default_rng([training.seed, number, place])
        made.append(_mixed(sources, shown, rng))
    return Crops(*(torch.stack(parts) for parts in zip(*made, strict=True)))


def _mixed(sources: Sequence[Source], training: Training, rng: np.random.Generator) -> Crops:
    """A crop, some of whose voxels may be those of another one."""
    how = training.mixing
    sample = _sample(sources, training, rng)
    crop = targets_of(sample, training)
    if not how.cutmix or rng.random() >= how.cutmix:
        return crop
    among: Sequence[Source] = [sources[sample.number]]
    if rng.random() < how.other:
        among = _others(sources, sample.number)
    other = targets_of(_sample(among, training, rng), training)
    _, height, width = sample.image.shape
    window = cutmix_window((height, width), min(how.window, height, width), rng)
    return pasted(crop, other, window)


def pasted(crop: Crops, other: Crops, window: np.ndarray) -> Crops:
    """A crop that shows another one within a window, bool (Y, X), through all sections."""
    where = torch.from_numpy(window)
    return Crops(*(torch.where(where, b, a) for a, b in zip(crop, other, strict=True)))


def _sample(sources: Sequence[Source], training: Training, rng: np.random.Generator) -> Sample:
    """A crop and what is known of it, changed in all ways."""
    how, learnt, mixing = training.augmentation, training.descriptors, training.mixing
    around: Triple = (0, 0, 0)
    if learnt is not None:
        around = reach(learnt.sigma_nm, training.voxel_size_nm, learnt.step)
    sample = draw(
        sources,
        training.crop,
        rng,
        rotation=how.rotation,
        scaling=how.scaling,
        planar=how.planar,
        around=around,
    )
    if mixing.frequency and rng.random() < mixing.frequency:
        partner = draw(_others(sources, sample.number), training.crop, rng, known=0)
        both = sample.image, partner.image
        low, high = training.normalisation.clip or (min(map(np.min, both)), max(map(np.max, both)))
        mixed = frequency_mixed(*both, mixing.beta, float(low), float(high))
        sample = sample.showing(mixed)
    return augmented(sample, how, rng, training.tiles.padding)


def _others(sources: Sequence[Source], number: int) -> Sequence[Source]:
    """All sources but one; that one, where there is no other."""
    return [source for n, source in enumerate(sources) if n != number] or sources


def targets_of(sample: Sample, training: Training) -> Crops:
    """What a network is asked about a crop, and where the answer is known; no axis B."""
    known = torch.from_numpy(np.ascontiguousarray(sample.known))
    pairs, there = affinity_targets(known[None], training.offsets, sample.flat)
    marks = torch.from_numpy(sample.marks)
    shapes, described = np.zeros((0, *known.shape), np.float32), known[None] != UNKNOWN
    learnt = training.descriptors
    if learnt is not None and sample.flat:  # of an object's sections, but not of the object
        shapes, described = np.zeros((CHANNELS, *known.shape), np.float32), described & False
    elif learnt is not None:
        z, y, x = training.voxel_size_nm
        size = (z * sample.every, y, x)
        shapes = descriptors(sample.truth, learnt.sigma_nm, size, sample.around, learnt.step)
    return Crops(
        torch.from_numpy(sample.image)[None],
        torch.cat([pairs[0], marks == 1]),
        torch.cat([there[0], marks != UNKNOWN_MARK]),
        torch.from_numpy(shapes),
        described,
    )
