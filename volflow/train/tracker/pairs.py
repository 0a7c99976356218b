"""Pairs of sections with their objects: the crops of a training step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from volflow.train.config.tracker import TrackerTraining
from volflow.train.data.augment import augmented
from volflow.train.data.draw import draw_sample
from volflow.train.data.samples import Source
from volflow.train.tracker.objects import Objects, objects_of


class Pairs(NamedTuple):
    """Key sections and their reference sections.

    sections : float32 tensor, (2 B, 1, Y, X)
        All key sections, then all reference sections.
    boxes : list of float32 tensor, (N, 4)
        Objects of each section.
    identities : list of int64 tensor, (N,)
    linked : list of bool
        For each pair, whether identities hold across sections.
    """

    sections: Tensor
    boxes: list[Tensor]
    identities: list[Tensor]
    linked: list[bool]

    def to(self, device: str) -> Pairs:
        """The same pairs on a device."""
        return Pairs(
            self.sections.to(device),
            [boxes.to(device) for boxes in self.boxes],
            [identities.to(device) for identities in self.identities],
            self.linked,
        )


def draw_pairs(sources: Sequence[Source], training: TrackerTraining, step: int) -> Pairs:
    """The pairs of a step: a function of the seed and the step's number."""
    drawn = [
        _pair(sources, training, np.random.default_rng([training.seed, step, position]))
        for position in range(training.batch)
    ]
    shown = [pair[side] for side in (0, 1) for pair, _ in drawn]
    sections, objects = [image for image, _ in shown], [some for _, some in shown]
    return Pairs(
        torch.from_numpy(np.stack(sections))[:, None],
        [torch.from_numpy(some.boxes) for some in objects],
        [torch.from_numpy(some.identities) for some in objects],
        [linked for _, linked in drawn],
    )


Shown = tuple[np.ndarray, Objects]


def _pair(
    sources: Sequence[Source], training: TrackerTraining, rng: np.random.Generator
) -> tuple[tuple[Shown, Shown], bool]:
    """Two sections of one crop, each with its objects, and whether identities are comparable."""
    depth = training.scope + 1
    how = training.augmentation
    sample = draw_sample(
        sources,
        (depth, *training.crop),
        rng,
        rotation=how.rotation,
        scaling=how.scaling,
        planar=how.planar,
    )
    linked = not sample.flat
    sample = augmented(sample, how, rng)
    distance = int(rng.integers(1, depth))
    first = int(rng.integers(0, depth - distance))
    key, reference = (first, first + distance)[:: 1 if rng.random() < 0.5 else -1]
    shown = [
        (sample.image[z], objects_of(sample.known[z], training.least_area))
        for z in (key, reference)
    ]
    return (shown[0], shown[1]), linked
