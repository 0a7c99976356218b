"""Groupings whose number of rows grows with the volume: their partitions and memory."""

from __future__ import annotations

import math
from typing import ClassVar

from volflow.core.geometry import Box, Triple
from volflow.core.stage import Grouping

MOST_PARTITIONS = 1024
CONSTANT = 16 << 20  # bytes of a gather or partition, however few its rows


class RowCosts(Grouping):
    """A grouping with at most one row for each `voxels_per_row` voxels."""

    bytes_per_voxel: ClassVar[int]
    """Of a block, its inputs included."""
    voxels_per_partition: ClassVar[int] = 1 << 30
    voxels_per_row: ClassVar[int]
    """A lower bound."""
    bytes_per_row: ClassVar[int]

    def partitions(self, bounds: Box) -> int:
        return max(1, min(MOST_PARTITIONS, -(-bounds.size // self.voxels_per_partition)))

    def memory(self, shape: Triple) -> int:
        return self.bytes_per_voxel * math.prod(shape)

    def node_memory(self, shape: Triple) -> int:
        return CONSTANT + self._of_rows(math.prod(shape))

    def group_memory(self, bounds: Box) -> int:
        return CONSTANT + self._of_rows(bounds.size // self.partitions(bounds))

    def _of_rows(self, voxels: int) -> int:
        return self.bytes_per_row * voxels // self.voxels_per_row
