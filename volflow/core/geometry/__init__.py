"""Coordinates, boxes, blocks and grids of blocks: zyx, half-open, in voxels."""

from volflow.core.geometry.box import Box
from volflow.core.geometry.coordinates import Resolution, Triple, Zyx, zyx
from volflow.core.geometry.gaps import NO_GAPS, Gaps
from volflow.core.geometry.grid import Block, BlockGrid

__all__ = ["NO_GAPS", "Block", "BlockGrid", "Box", "Gaps", "Resolution", "Triple", "Zyx", "zyx"]
