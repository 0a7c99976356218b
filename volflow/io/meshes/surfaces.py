"""Triangles of a mesh in fragments, decoded and welded."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from volflow.core.fragmented_mesh import FragmentedMesh
from volflow.io.meshes.multiresolution import BITS


class Surface(NamedTuple):
    """Triangles in nanometres.

    Attributes
    ----------
    position : float64 array, (N, 3)
        Of vertices: z, y, x in nanometres.
    triangles : int64 array, (M, 3)
        Indices of vertices, counter-clockwise in the axes x, y, z if seen from outside.
    """

    position: np.ndarray
    triangles: np.ndarray


def level_surface(mesh: FragmentedMesh, level: int) -> Surface:
    """The surface at a level of detail, its fragments welded.

    Raises
    ------
    ValueError
        If the mesh has no such level, or a fragment is damaged.
    """
    if not 0 <= level < len(mesh.levels):
        raise ValueError(
            f"mesh {mesh.name}: expected a level from 0 to {len(mesh.levels) - 1}; got {level}"
        )
    stored, steps = mesh.levels[level], (1 << BITS) - 1
    places, triangles, count = [], [], 0
    for cell, body in zip(stored.cells, stored.fragments, strict=True):
        if body:
            place, corners = decode_fragment(body, f"mesh {mesh.name}")
            places.append(cell * steps + place)  # the same numbers on both sides of a plane
            triangles.append(corners + count)
            count += len(place)
    if not places:
        return Surface(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    vertices, corners = welded(np.concatenate(places), np.concatenate(triangles))
    side = np.array(mesh.grid.cell_nm) * 2.0**level / steps
    return Surface(mesh.grid.corner_nm(level, (0, 0, 0)) + vertices * side, corners)


def decode_fragment(body: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions z, y, x int64 (N, 3) in steps, and triangles int64 (M, 3) of a Draco mesh.

    Raises
    ------
    ValueError
        If the bytes are damaged.
    """
    import DracoPy  # an extra, needed for few formats

    try:
        mesh = DracoPy.decode(body)
        position = np.rint(mesh.points).astype(np.int64).reshape(-1, 3)
        triangles = np.asarray(mesh.faces, np.int64).reshape(-1, 3)
    except Exception as error:  # the library raises several types
        raise ValueError(f"{name}: a fragment of {len(body)} bytes is damaged: {error}") from error
    return position[:, ::-1], triangles


def welded(places: np.ndarray, triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and triangles in which vertices at one place are one.

    Triangles that are only a line or a point then are left out.

    Parameters
    ----------
    places : int64, (N, 3)
    triangles : int64, (M, 3)
    """
    order = np.lexsort(places.T[::-1])
    ordered = places[order]
    new = np.ones(len(ordered), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    number = np.empty(len(ordered), np.int64)
    number[order] = np.cumsum(new) - 1
    corners = number[triangles]
    a, b, c = corners.T
    return ordered[new], corners[(a != b) & (b != c) & (c != a)]
