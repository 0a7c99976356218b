"""Crops that a step of a training learns from, changed at random, and what is known of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from volflow.core.geometry import Triple
from volflow.segment.descriptors import descriptors, reach
from volflow.train.augment import augmented
from volflow.train.config import Training
from volflow.train.samples import Source, draw


class Crops(NamedTuple):
    """What a step learns from.

    image : float32 tensor, (B, 1, Z, Y, X)
    truth : int32 tensor, (B, Z, Y, X)
    shapes : float32 tensor, (B, 10, Z, Y, X), or None
        Local shape descriptors of the truth.
    """

    image: Tensor
    truth: Tensor
    shapes: Tensor | None = None

    def to(self, device: str) -> Crops:
        """The same on a device."""
        shapes = None if self.shapes is None else self.shapes.to(device)
        return Crops(self.image.to(device), self.truth.to(device), shapes)


def batch(sources: Sequence[Source], training: Training, number: int) -> Crops:
    """The crops of a step: a function of the seed and the step's number."""
    images, truths, shapes = [], [], []
    how, learnt = training.augmentation, training.descriptors
    around: Triple = (0, 0, 0)
    if learnt is not None:
        around = reach(learnt.sigma_nm, training.voxel_size_nm, learnt.step)
    for place in range(training.batch):
        rng = np.random.default_rng([training.seed, number, place])
        sample = draw(
            sources,
            training.crop,
            rng,
            rotation=how.rotation,
            scaling=how.scaling,
            around=around,
        )
        sample = augmented(sample, how, rng)
        images.append(torch.from_numpy(sample.image))
        truths.append(torch.from_numpy(np.ascontiguousarray(sample.known)))
        if learnt is not None:
            found = descriptors(
                sample.truth, learnt.sigma_nm, training.voxel_size_nm, sample.around, learnt.step
            )
            shapes.append(torch.from_numpy(found))
    described = torch.stack(shapes) if shapes else None
    return Crops(torch.stack(images)[:, None], torch.stack(truths), described)
