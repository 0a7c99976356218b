"""A mesh in fragments: cells of several levels of detail, each with the encoded surface in it.

    level 0    |--|--|--|--|    cells of one shape, from `origin_nm` on
    level 1    |-----|-----|    twice as long: a cell covers 2 x 2 x 2 of the level before

Level k is computed from voxels `2 ** k` times as long as those of level 0. Its lattice is that of
level 0 up to a shift of less than one voxel, `shifts_nm`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from volflow.core.geometry import Triple


@dataclass(frozen=True, slots=True)
class MeshGrid:
    """The cells of a volume's meshes, in nanometres z, y, x.

    Attributes
    ----------
    origin_nm : (float, float, float)
        The corner of cell 0 of level 0.
    cell_nm : (float, float, float)
        The sides of a cell of level 0.
    voxels : int
        Voxels along each side of a cell, at every level.
    shifts_nm : tuple of (float, float, float)
        By level: the corner of its cell 0, relative to `origin_nm`.
    """

    origin_nm: tuple[float, float, float]
    cell_nm: tuple[float, float, float]
    voxels: int
    shifts_nm: tuple[tuple[float, float, float], ...]

    def voxel_nm(self, level: int) -> float:
        """The longest side of a voxel of a level, nanometres."""
        return max(self.cell_nm) / self.voxels * 2.0**level

    def corner_nm(self, level: int, cell: Triple) -> np.ndarray:
        """The corner of a cell, float64 z, y, x."""
        sides = np.array(self.cell_nm) * 2.0**level
        first = np.array(self.origin_nm) + np.array(self.shifts_nm[level])
        return np.asarray(first + np.array(cell) * sides)


@dataclass(frozen=True, slots=True)
class MeshLevel:
    """The fragments of a level of detail.

    Attributes
    ----------
    cells : int64 array, (N, 3)
        z, y, x of each cell in the level's grid; along a Z-order curve, x being the lowest bit.
    fragments : tuple of bytes
        Of each cell: a Draco mesh of positions x, y, z as integers, 0 to `2 ** bits - 1` over the
        cell; empty: the cell has no surface, but cells of finer levels in it have one.
    """

    cells: np.ndarray
    fragments: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class FragmentedMesh:
    """The mesh of an object, the finest level first.

    Attributes
    ----------
    name : int
        Id of the object.
    grid : MeshGrid
    levels : tuple of MeshLevel
        At least one. A cell that has an ancestor in a coarser level of the mesh has it there.
    """

    name: int
    grid: MeshGrid
    levels: tuple[MeshLevel, ...]


def z_order(cells: np.ndarray) -> np.ndarray:
    """The order of cells along a Z-order curve.

    Parameters
    ----------
    cells : int64, (N, 3)
        z, y, x from 0 to `2 ** 21 - 1`.

    Returns
    -------
    int64, (N,)
        Indices that sort the cells.

    Raises
    ------
    ValueError
        If a cell is beyond 21 bits.
    """
    if len(cells) and not (cells.min() >= 0 and cells.max() < 1 << 21):
        raise ValueError(f"expected cells from 0 to {(1 << 21) - 1}; got {cells.max()}")
    code = np.zeros(len(cells), np.int64)
    for axis in range(3):  # z, y, x
        bits = cells[:, axis].astype(np.int64)
        for shift, mask in _SPREAD:
            bits = (bits | bits << shift) & mask
        code |= bits << (2 - axis)
    return np.argsort(code, kind="stable")


_SPREAD = (
    (32, 0x1F00000000FFFF),
    (16, 0x1F0000FF0000FF),
    (8, 0x100F00F00F00F00F),
    (4, 0x10C30C30C30C30C3),
    (2, 0x1249249249249249),
)
"""Steps that move the bits of a number of 21 bits to every third bit."""
