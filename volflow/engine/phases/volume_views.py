"""Volumes that are read as another one: without some sections, or mirrored at their faces.

A trial runs a few blocks of a large volume in a scratch folder. The blocks read beyond what the
trial wrote; there they see the mirror image.
"""

from __future__ import annotations

import numpy as np

from volflow.core.geometry import Box, Gaps, zyx
from volflow.io.formats.stored_array import placed
from volflow.io.volume import Volume


class ClosedVolume:
    """A volume without the sections of some gaps; boxes have closed z."""

    def __init__(self, volume: Volume, gaps: Gaps) -> None:
        self.volume, self.gaps, self.bounds = volume, gaps, gaps.close(volume.bounds)
        self.dtype, self.channels, self.chunk = volume.dtype, volume.channels, volume.chunk

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """The voxels of any box, 0 beyond the bounds; written into `out` if given."""
        leading = (self.channels,) if self.channels else ()
        array = np.empty((*leading, *box.shape), self.dtype)
        first = 0
        for run in self.gaps.open_runs(box):
            length = run.shape[0]
            array[..., first : first + length, :, :] = self.volume.read(run)
            first += length
        return placed(array, out)


class MirroredVolume:
    """A volume over a part, extended over the whole by mirroring at the faces of the part.

    Labels beyond the part get a bit that no stored label has, so that they differ from those
    inside.
    """

    def __init__(self, volume: Volume, whole: Box) -> None:
        self.volume, self.bounds = volume, whole
        self.dtype, self.channels, self.chunk = volume.dtype, volume.channels, volume.chunk

    def read(self, box: Box, out: np.ndarray | None = None) -> np.ndarray:
        """The voxels of any box, 0 beyond the whole; written into `out` if given."""
        part, inside = self.volume.bounds, box.clip(self.bounds)
        if part.covers(inside):
            return self.volume.read(box, out=out)
        positions = [_mirrored(inside, part, axis) for axis in range(3)]
        first = zyx([int(along.min()) for along in positions])
        last = zyx([int(along.max()) for along in positions])
        z, y, x = (along - start for along, start in zip(positions, first, strict=True))
        voxels = self.volume.read(Box(first, last + 1))[..., z[:, None, None], y[:, None], x]
        if self.volume.kind == "segmentation":
            beyond = np.ones(inside.shape, bool)
            beyond[inside.clip(part).within(inside)] = False
            voxels[beyond & (voxels != 0)] |= voxels.dtype.type(1 << (8 * voxels.itemsize - 2))
        array = np.zeros((*voxels.shape[:-3], *box.shape), voxels.dtype)
        array[(..., *inside.within(box))] = voxels
        return placed(array, out)


def _mirrored(box: Box, part: Box, axis: int) -> np.ndarray:
    """For each position of a box along an axis, its mirror image in the part; int64."""
    side = part.shape[axis]
    offset = (np.arange(box.start[axis], box.stop[axis]) - part.start[axis]) % (2 * side)
    positions: np.ndarray = np.minimum(offset, 2 * side - 1 - offset) + part.start[axis]
    return positions
