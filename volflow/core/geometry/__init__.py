"""Coordinates, boxes, blocks and grids of blocks: zyx, half-open, in voxels."""

from volflow.core.geometry.box import Box
from volflow.core.geometry.coordinates import Resolution, Triple, Zyx, zyx
from volflow.core.geometry.grid import Block, BlockGrid

__all__ = ["Block", "BlockGrid", "Box", "Resolution", "Triple", "Zyx", "zyx"]
