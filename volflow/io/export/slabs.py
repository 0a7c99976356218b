"""A volume section by section, read ahead in slabs of whole sections."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import psutil

from volflow.core.geometry import Box, Zyx
from volflow.errors import BlockError
from volflow.io.volume import Volume

MEMORY = 1 << 30  # bytes for slabs, unless a quarter of the machine's free memory is less
COPIES = 6  # of a slab at the peak: read, read ahead, and relabelled or converted between types

Transform = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Export:
    """A box of a volume to be written to a file.

    `transform` changes the numbers of a slab (Z, Y, X) or (C, Z, Y, X) and makes them `dtype`;
    `progress` is called with the number of sections written so far.
    """

    volume: Volume
    bounds: Box
    dtype: np.dtype[np.generic]
    transform: Transform
    progress: Callable[[int], None] = lambda sections: None

    @property
    def shape(self) -> tuple[int, ...]:
        """(Z, Y, X) or (C, Z, Y, X)."""
        leading = (self.volume.channels,) if self.volume.channels else ()
        return (*leading, *self.bounds.shape)

    @property
    def nbytes(self) -> int:
        """Bytes before compression."""
        return math.prod(self.shape) * self.dtype.itemsize

    def slabs(self, depth: int) -> Iterator[tuple[Box, np.ndarray]]:
        """The boxes of `depth` sections along z, the last one maybe fewer, with their numbers.

        The next slab is read while one is used.

        Raises
        ------
        BlockError
            If `transform` refuses a number.
        StorageError
            If the volume is damaged.
        """
        starts = range(self.bounds.start.z, self.bounds.stop.z, depth)
        boxes = [self._slab(z, depth) for z in starts]
        with ThreadPoolExecutor(1) as pool:
            following = pool.submit(self.volume.read, boxes[0])
            for number, box in enumerate(boxes):
                array = following.result()
                if number + 1 < len(boxes):
                    following = pool.submit(self.volume.read, boxes[number + 1])
                try:
                    numbers = self.transform(array)
                except ValueError as error:
                    raise BlockError(f"voxels {box}: {error}") from error
                yield box, numbers
                self.progress(box.stop.z - self.bounds.start.z)

    def _slab(self, z: int, depth: int) -> Box:
        start, stop = self.bounds.start, self.bounds.stop
        return Box(Zyx(z, start.y, start.x), Zyx(min(z + depth, stop.z), stop.y, stop.x))

    def slab_depth(self, unit: int = 0) -> int:
        """Sections of a slab: whole chunks of `unit` sections if memory allows, at least one.

        Parameters
        ----------
        unit : int
            0 for the depth of the volume's chunks.
        """
        unit = unit or self.volume.chunk[0]
        section = math.prod(self.shape[-2:]) * max(1, self.volume.channels)
        itemsize = max(self.dtype.itemsize, self.volume.dtype.itemsize)
        memory = min(MEMORY, psutil.virtual_memory().available // 4)
        most = max(1, memory // (COPIES * section * itemsize))
        return max(1, most // unit * unit) if most >= unit else int(most)
