"""The crops of a training step, augmented at random, with their targets."""

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
from volflow.train.data.draw import draw_sample
from volflow.train.data.mixing import cutmix_window, frequency_mixed
from volflow.train.data.samples import UNKNOWN, UNKNOWN_MARK, Sample, Source
from volflow.train.losses import affinity_targets


class Crops(NamedTuple):
    """Crops of a step with their targets; without the axis B, a single crop.

    image : float32 tensor, (B, 1, Z, Y, X)
    target, valid : bool tensor, (B, K, Z, Y, X)
        Binary targets (affinities, foreground, masks), and where they are known.
    shapes : float32 tensor, (B, 10 or 0, Z, Y, X)
        Local shape descriptors of the truth; no channels if they are not trained.
    described : bool tensor, (B, 1, Z, Y, X)
        Where the descriptors are known.
    """

    image: Tensor
    target: Tensor
    valid: Tensor
    shapes: Tensor
    described: Tensor

    def to(self, device: str) -> Crops:
        """The same crops on a device."""
        return Crops(*(part.to(device) for part in self))


def batch(sources: Sequence[Source], training: Training, step: int) -> Crops:
    """The crops of a step: a function of the seed and the step's number."""
    crops = []
    training = training.model_copy(update={"augmentation": training.augmentation_at(step)})
    for position in range(training.batch):
        rng = np.random.default_rng([training.seed, step, position])
        crops.append(_mixed(sources, training, rng))
    return Crops(*(torch.stack(parts) for parts in zip(*crops, strict=True)))


def _mixed(sources: Sequence[Source], training: Training, rng: np.random.Generator) -> Crops:
    """A crop in which a window may show another crop (CutMix)."""
    how = training.mixing
    sample = _draw_augmented(sources, training, rng)
    crop = crop_targets(sample, training)
    if not how.cutmix or rng.random() >= how.cutmix:
        return crop
    among: Sequence[Source] = [sources[sample.number]]
    if rng.random() < how.other:
        among = _others(sources, sample.number)
    other = crop_targets(_draw_augmented(among, training, rng), training)
    _, height, width = sample.image.shape
    window = cutmix_window((height, width), min(how.window, height, width), rng)
    return paste(crop, other, window)


def paste(crop: Crops, other: Crops, window: np.ndarray) -> Crops:
    """A crop with another one pasted into a window, bool (Y, X), through all sections."""
    mask = torch.from_numpy(window)
    return Crops(*(torch.where(mask, b, a) for a, b in zip(crop, other, strict=True)))


def _draw_augmented(
    sources: Sequence[Source], training: Training, rng: np.random.Generator
) -> Sample:
    """A random crop with its truth, after frequency mixing and augmentation."""
    how, shape, mixing = training.augmentation, training.descriptors, training.mixing
    margin: Triple = (0, 0, 0)
    if shape is not None:
        margin = reach(shape.sigma_nm, training.voxel_size_nm, shape.step)
    sample = draw_sample(
        sources,
        training.crop,
        rng,
        rotation=how.rotation,
        scaling=how.scaling,
        planar=how.planar,
        margin=margin,
    )
    if mixing.frequency and rng.random() < mixing.frequency:
        partner = draw_sample(_others(sources, sample.number), training.crop, rng, known=0)
        both = sample.image, partner.image
        low, high = training.normalisation.clip or (min(map(np.min, both)), max(map(np.max, both)))
        mixed = frequency_mixed(*both, mixing.beta, float(low), float(high))
        sample = sample.with_image(mixed)
    return augmented(sample, how, rng, training.tiles.padding)


def _others(sources: Sequence[Source], number: int) -> Sequence[Source]:
    """All sources but one; that one where there is no other."""
    return [source for n, source in enumerate(sources) if n != number] or sources


def crop_targets(sample: Sample, training: Training) -> Crops:
    """The targets of a crop, and where they are known; no axis B."""
    known = torch.from_numpy(np.ascontiguousarray(sample.known))
    affinities, valid = affinity_targets(known[None], training.offsets, sample.flat)
    marks = torch.from_numpy(sample.marks)
    shapes, described = np.zeros((0, *known.shape), np.float32), known[None] != UNKNOWN
    shape = training.descriptors
    if shape is not None and sample.flat:  # labels of single sections have no shape in 3D
        shapes, described = np.zeros((CHANNELS, *known.shape), np.float32), described & False
    elif shape is not None:
        z, y, x = training.voxel_size_nm
        size = (z * sample.section_step, y, x)
        shapes = descriptors(sample.truth, shape.sigma_nm, size, sample.margin, shape.step)
    return Crops(
        torch.from_numpy(sample.image)[None],
        torch.cat([affinities[0], marks == 1]),
        torch.cat([valid[0], marks != UNKNOWN_MARK]),
        torch.from_numpy(shapes),
        described,
    )
