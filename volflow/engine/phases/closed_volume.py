"""A volume without some of its sections, read as if the others were next to one another."""

from __future__ import annotations

import numpy as np

from volflow.core.geometry import Box, Gaps
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
