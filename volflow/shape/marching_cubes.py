"""Surfaces of labels in a cell: marching cubes, simplified with a bounded error, by zmesh.

A cell is a box of `side` cubes along each axis, whose corners are voxel centres: it has `side` + 1
voxels, and shares those on its faces with its neighbours. Vertices on the faces of a cell stay
where marching cubes put them, in the middle between two voxels, so the surfaces of adjacent cells
meet without gaps.

The result is a function of the labels in the cell alone: they are numbered within it, their memory
order is fixed, and positions are relative to the cell.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from volflow.core.geometry import Resolution

REDUCTION = 100  # at most so many triangles become one; the error stops it before
_SNAP = 1e-3  # voxels from a place between two voxels: rounding of float32


class Surface(NamedTuple):
    """The surface of a label in a cell.

    Attributes
    ----------
    label : int
    position : float64 array, (N, 3)
        z, y, x of vertices in voxels from the first voxel centre of the cell.
    triangles : uint32 array, (M, 3)
        Indices of vertices, counter-clockwise in the axes x, y, z if seen from outside.
    """

    label: int
    position: np.ndarray
    triangles: np.ndarray


def missing_library() -> str:
    """A sentence if a library for meshes is not installed, or ""."""
    missing = [name for name in ("zmesh", "DracoPy") if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return f"meshes need {' and '.join(missing)}, not installed: pip install '.[meshes]'"


def cell_surfaces(labels: np.ndarray, side_nm: Resolution, error_nm: float) -> Iterator[Surface]:
    """The surfaces of all labels of a cell but 0, ascending by label.

    Parameters
    ----------
    labels : uint64, (Z, Y, X)
        The voxels whose centres are the corners of the cell's cubes.
    side_nm : (float, float, float)
        Sides of a voxel, nanometres z, y, x.
    error_nm : float
        Largest distance, as the simplification estimates it, by which the surface moves; 0: it is
        not simplified.

    Raises
    ------
    ValueError
        If the labels are not uint64, (Z, Y, X).

    References
    ----------
    Lorensen and Cline, Marching cubes, SIGGRAPH 1987; Garland and Heckbert, Surface simplification
    using quadric error metrics, SIGGRAPH 1997.
    """
    import zmesh  # an extra

    if labels.dtype != np.uint64 or labels.ndim != 3:
        raise ValueError(
            f"labels: expected uint64 (Z, Y, X); got {labels.dtype} of shape {labels.shape}"
        )
    names, numbers = np.unique(labels, return_inverse=True)
    if len(names) == 1:
        return  # no surface
    first = int(names[0] != 0)  # 0 stays 0
    dense = np.ascontiguousarray(numbers.reshape(labels.shape) + first, np.uint32)
    mesher = zmesh.Mesher(side_nm)
    mesher.mesh(dense)
    last = np.array(labels.shape) - 1
    for number, name in enumerate(names.tolist(), first):
        if not name:
            continue
        mesh = mesher.get(
            number,
            normals=False,
            reduction_factor=REDUCTION if error_nm else 0,
            max_error=error_nm,
        )
        mesher.erase(number)
        if len(mesh.faces):
            # marching cubes' axes are z, y, x here: its triangles turn the other way in x, y, z
            position = mesh.vertices.astype(np.float64) / np.array(side_nm)
            yield Surface(name, _snapped(position, last), mesh.faces[:, ::-1])


def _snapped(position: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Positions in which those on the faces of the cell are exactly between two voxels."""
    halves = np.rint(2 * position) / 2
    on_face = ((halves == 0) | (halves == last)).any(axis=1)
    exact = on_face & (np.abs(position - halves) < _SNAP).all(axis=1)
    return np.where(exact[:, None], halves, position).clip(0, last)
