"""Blocks of a large volume that are done by themselves, as a trial does them.

What a block does may depend on the bounds it lies in: tiles of a network are anchored to them, and
a cluster at a face that other blocks lie behind is not settled. Blocks of a part are numbered
within the part and say that they lie in the whole.

    |--------------------------------------|   whole
              [ 0 ][ 1 ][ 2 ]                  part: what is written
          hhhh[ 0 ]hhhh                        what a block reads beyond it: of an input the whole,
                                               of what the trial itself wrote the mirror image
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from volflow.core.geometry import Block, BlockGrid, Box, Triple, zyx
from volflow.engine.job import Job, Source
from volflow.io.formats.stored_array import placed
from volflow.io.volume import Volume

NOTHING = Box((0, 0, 0), (0, 0, 0))


@dataclass(frozen=True)
class PartGrid(BlockGrid):
    """Blocks over `bounds`, which say that they lie in a whole that is larger."""

    whole: Box = NOTHING

    def __getitem__(self, key: int | Triple) -> Block:
        return replace(BlockGrid.__getitem__(self, key), bounds=self.whole)


class MirroredVolume:
    """A volume over a part, read as if it covered the whole: mirrored at the faces of the part.

    Labels beyond the part get a bit that no label has, so that they are other ones.
    """

    def __init__(self, volume: Volume, whole: Box) -> None:
        self.volume, self.bounds = volume, whole
        self.dtype, self.channels, self.chunk = volume.dtype, volume.channels, volume.chunk

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """Any box, read into `out` if that is given; 0 beyond the whole."""
        part, asked = self.volume.bounds, box.clip(self.bounds)
        if part.covers(asked):
            return self.volume.read(box, out=out)
        at = [_mirrored(asked, part, axis) for axis in range(3)]
        first = zyx([int(places.min()) for places in at])
        source = Box(first, zyx([int(places.max()) + 1 for places in at]))
        z, y, x = (places - start for places, start in zip(at, first, strict=True))
        shown = self.volume.read(source)[..., z[:, None, None], y[:, None], x]
        if self.volume.kind == "segmentation":
            beyond = np.ones(asked.shape, bool)
            beyond[asked.clip(part).within(asked)] = False
            shown[beyond & (shown != 0)] |= shown.dtype.type(1 << (8 * shown.itemsize - 2))
        found = np.zeros((*shown.shape[:-3], *box.shape), shown.dtype)
        found[(..., *asked.within(box))] = shown
        return placed(found, out)


def _mirrored(asked: Box, part: Box, axis: int) -> np.ndarray:
    """For each place of a box along an axis the one in the part that stands for it, int64."""
    side = part.shape[axis]
    place = (np.arange(asked.start[axis], asked.stop[axis]) - part.start[axis]) % (2 * side)
    found: np.ndarray = np.minimum(place, 2 * side - 1 - place) + part.start[axis]
    return found


def job_in(job: Job, like: Job, whole: Box) -> Job:
    """A job over a part as it is within the whole, where `like` is the same kind of pass.

    Nodes are those of the whole but for the root, which has to settle what it is passed: its bounds
    are the part, as those of the root of the run are the whole.
    """
    phase, below = job.phase, job.phase.below
    lies_in = phase.grid.bounds if phase.root and phase.kind == "join" else whole
    grid = PartGrid(phase.grid.bounds, phase.grid.shape, like.phase.grid.halo, lies_in)
    under = below and PartGrid(below.bounds, below.shape, below.halo, whole)
    sources = {
        name: replace(source, whole=whole) if isinstance(source, Source) and source.own else source
        for name, source in job.sources.items()
    }
    return replace(job, phase=replace(phase, grid=grid, below=under), sources=sources)


def kinds(grid: BlockGrid, whole: Box) -> list[tuple[int, Triple, float]]:
    """Blocks of a grid by their shape and how far they are open.

    Parameters
    ----------
    grid : BlockGrid
    whole : Box
        What the grid's bounds are a part of.

    Returns
    -------
    list of (how many, shape, open)
        `open` is the share of a block's surface, 0 to 1, that does not lie on that of the whole.
        At most nine shapes and open faces an axis are told apart, however many blocks there are.
    """
    along: list[Counter[tuple[int, int]]] = []
    for axis in range(3):
        found: Counter[tuple[int, int]] = Counter()
        for place in range(grid.counts[axis]):
            start = grid.bounds.start[axis] + place * grid.shape[axis]
            stop = min(start + grid.shape[axis], grid.bounds.stop[axis])
            inner = (start > whole.start[axis]) + (stop < whole.stop[axis])
            found[stop - start, inner] += 1
        along.append(found)
    return [
        (nz * ny * nx, (z, y, x), _open((z, y, x), (fz, fy, fx)))
        for (z, fz), nz in along[0].items()
        for (y, fy), ny in along[1].items()
        for (x, fx), nx in along[2].items()
    ]


def _open(shape: Triple, faces: Triple) -> float:
    """The share of a box's surface that so many open faces of each axis are."""
    z, y, x = shape
    sides = zyx((y * x, z * x, z * y))
    area = sum(side * count for side, count in zip(sides, faces, strict=True))
    return area / (2 * sum(sides))
