"""Random small volumes in random blocks, for laws of the segmentation and for long soaks."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.harness import run_in_memory
from tests.reference import segmentation
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.stages.agglomerate import Agglomerate
from volflow.stages.fragments import Fragments


@dataclass
class Case:
    """Affinities of a volume, the part of it that is segmented, its blocks, the parameters."""

    affinity: np.ndarray
    offset: Triple
    mask: np.ndarray | None
    bounds: Box
    block: Triple
    fragments: dict[str, Any] = field(default_factory=dict)
    agglomerate: dict[str, Any] = field(default_factory=dict)

    def by_blocks(self, block: Triple | None = None) -> np.ndarray:
        return run_in_memory(
            Fragments(**self.fragments),
            Agglomerate(**self.agglomerate),
            BlockGrid(self.bounds, block or self.block),
            self.affinity,
            self.offset,
            self.mask,
        )[0]

    def by_reference(self) -> np.ndarray:
        inside = self.bounds.shift(tuple(-o for o in self.offset)).slices
        mask = None if self.mask is None else self.mask[inside]
        part = self.affinity[(slice(None), *inside)]
        return segmentation(part, mask, **self.fragments, **self.agglomerate)

    def __str__(self) -> str:
        masked = "none" if self.mask is None else f"{np.mean(self.mask == 0):.2f}"
        return (
            f"bounds {self.bounds} of {self.affinity.shape[1:]} at {self.offset}, block "
            f"{self.block}, masked {masked}, {self.fragments}, {self.agglomerate}"
        )


def random_case(draw: random.Random, voxels: int = 500, horizon: bool = False) -> Case:
    """A case of at most `voxels` voxels; with `horizon`, blocks that divide one."""
    sides = [draw.randint(1, 12) for _ in range(3)]
    while sides[0] * sides[1] * sides[2] > voxels:
        longest = sides.index(max(sides))
        sides[longest] -= 1
    offset = tuple(draw.randint(-5, 40) for _ in range(3))
    before = [draw.choice([0, 0, 1, 4]) for _ in range(3)]
    after = [draw.choice([0, 0, 1, 4]) for _ in range(3)]
    start = tuple(o + b for o, b in zip(offset, before, strict=True))
    bounds = Box(start, tuple(a + n for a, n in zip(start, sides, strict=True)))
    shape = tuple(b + n + a for b, n, a in zip(before, sides, after, strict=True))
    rng = np.random.default_rng(draw.getrandbits(32))
    block = tuple(draw.randint(1, min(n + 1, draw.choice([2, 3, 6, 14]))) for n in sides)
    case = Case(
        affinity=_affinities(draw, rng, shape),
        offset=offset,
        mask=_mask(draw, rng, shape),
        bounds=bounds,
        block=block,
        fragments=_fragment_parameters(draw),
        agglomerate=_agglomerate_parameters(draw),
    )
    if horizon:
        far = tuple(side * draw.choice([1, 1, 2, 3, 4, 6]) for side in block)
        case.agglomerate["horizon"] = far
    return case


def _affinities(draw: random.Random, rng: np.random.Generator, shape: Triple) -> np.ndarray:
    levels = draw.choice([2, 3, 4, 8, 32, 256])
    values = rng.random((3, *shape))
    if draw.random() < 0.5:  # smooth: larger fragments, contacts of unlike scores
        for axis in (1, 2, 3):
            values = (values + np.roll(values, 1, axis)) / 2
    values = (values - values.min()) / max(np.ptp(values), 1e-9)
    low = draw.choice([0, 0, 100])
    affinity = (low + np.floor(values * levels * 0.9999) * (255 - low) / (levels - 1)).astype("u1")
    for _ in range(draw.choice([0, 0, 1, 2])):  # empty slabs
        axis = draw.randrange(3)
        at = draw.randrange(shape[axis])
        np.moveaxis(affinity, axis + 1, 0)[at : at + draw.randint(1, 3)] = 0
    return affinity


def _mask(draw: random.Random, rng: np.random.Generator, shape: Triple) -> np.ndarray | None:
    kind = draw.choice(["none", "none", "voxels", "slab", "box", "all"])
    if kind == "none" or (kind == "all" and draw.random() < 0.8):
        return None
    mask = np.ones(shape, bool)
    if kind == "voxels":
        mask &= rng.random(shape) > draw.choice([0.05, 0.3, 0.8])
    elif kind == "slab":
        axis = draw.randrange(3)
        at = draw.randrange(shape[axis])
        np.moveaxis(mask, axis, 0)[at : at + draw.randint(1, 4)] = False
    elif kind == "box":
        mask[tuple(slice(draw.randrange(n), None) for n in shape)] = False
    else:
        mask[:] = False
    return mask


def _fragment_parameters(draw: random.Random) -> dict[str, Any]:
    low = draw.choice([0, 1, 1, 1, 60, 255])
    high = draw.choice([None, None, None, 200, 255])
    return {"low": low, "high": high if high is None else max(high, low)}


def _agglomerate_parameters(draw: random.Random) -> dict[str, Any]:
    return {
        "threshold": draw.choice([0.0, 0.1, 0.3, 0.5, 0.7]),
        "join_rounds": draw.choice([0, 0, 1, 1, 2]),
        "join_score": draw.choice([0.0, 0.3, 0.5]),
        "min_size": draw.choice([0, 0, 3, 20]),
        "min_size_score": draw.choice([0.0, 0.02, 0.3]),
    }
