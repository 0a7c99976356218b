"""A look for a voxel of a volume that is not 0, box by box."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from volflow.core.geometry import Box, Triple, zyx
from volflow.io.formats.stored_array import tiles

LOOK = 1 << 22  # voxels of a box, unless a chunk has more


class Readable(Protocol):
    """A volume of which boxes are read."""

    bounds: Box
    chunk: Triple

    def read(self, box: Box) -> np.ndarray:
        """The voxels of a box."""


def is_empty(volume: Readable, bounds: Box, most: int | None = None) -> bool | None:
    """Whether all voxels of a volume within the bounds are 0; reading ends at one that is not.

    Parameters
    ----------
    volume : Readable
    bounds : Box
    most : int, optional
        Voxels after which reading ends; None is returned then.

    Raises
    ------
    StorageError
        If a part of the volume cannot be read.
    """
    seen = 0
    sides = _look(volume.chunk, volume.bounds.shape)
    for box in tiles(volume.bounds.clip(bounds), sides, volume.bounds.start):
        if most is not None and seen >= most:
            return None
        if volume.read(box).any():
            return False
        seen += box.size
    return True


def _look(chunk: Triple, shape: Triple) -> Triple:
    """The sides of a box of whole chunks: first more of them along x, then along y, then z."""
    sides = list(chunk)
    for axis in (2, 1, 0):
        most = max(1, LOOK // int(np.prod(sides)))
        sides[axis] *= min(most, -(-shape[axis] // sides[axis]))
    return zyx(sides)
