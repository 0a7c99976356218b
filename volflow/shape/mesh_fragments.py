"""Fragments of meshes as Neuroglancer reads them: Draco, on a grid of integers over a cell.

At level 0 a cell is meshed as a whole. At coarser levels no triangle may cross the planes through
the middle of a cell, so its eight halves are meshed one by one, and what they share is rounded to
the same integers on both sides.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from volflow.core.geometry import Resolution, Triple, zyx
from volflow.shape.marching_cubes import Surface, cell_surfaces

BITS = 16  # Neuroglancer reads 10 or 16
_COMPRESSION = 7  # of Draco, 0 to 10


class Fragment(NamedTuple):
    """The encoded surface of a label in a cell.

    Attributes
    ----------
    label : int
    triangles : int
    body : bytes
        Draco; positions x, y, z as integers from 0 to `2 ** 16 - 1` over the cell.
    """

    label: int
    triangles: int
    body: bytes


def cell_fragments(
    labels: np.ndarray, side: int, halves: bool, side_nm: Resolution, error_nm: float
) -> Iterator[Fragment]:
    """The fragments of a cell, ascending by label.

    Parameters
    ----------
    labels : uint64, (Z, Y, X)
        At most `side` + 1 along each axis; fewer at the end of the volume.
    side : int
        Voxels along each side of a cell, even.
    halves : bool
        Whether no triangle may cross the planes through the middle of the cell.
    side_nm, error_nm
        See `cell_surfaces`.
    """
    step = side // 2 if halves else side
    pieces: dict[int, list[tuple[Triple, Surface]]] = {}
    for start in itertools.product(*(range(0, length - 1, step) for length in labels.shape)):
        box = tuple(slice(first, first + step + 1) for first in start)
        for surface in cell_surfaces(labels[box], side_nm, error_nm):
            pieces.setdefault(surface.label, []).append((zyx(start), surface))
    for label in sorted(pieces):
        yield _encoded(label, pieces[label], side)


def _encoded(label: int, pieces: list[tuple[Triple, Surface]], side: int) -> Fragment:
    """The fragment of some pieces, each with its first voxel in the cell."""
    import DracoPy  # an extra

    starts = np.cumsum([0, *(len(surface.position) for _, surface in pieces[:-1])])
    position = np.concatenate([surface.position + start for start, surface in pieces])
    triangles = np.concatenate(
        [surface.triangles + start for (_, surface), start in zip(pieces, starts, strict=True)]
    )
    steps = (1 << BITS) - 1
    body = DracoPy.encode(
        np.floor(position[:, ::-1] * (steps / side) + 0.5).astype(np.float32),
        triangles.astype(np.uint32),
        quantization_bits=BITS,  # of a range of so many integers: they are stored as they are
        quantization_range=steps,
        quantization_origin=np.zeros(3),
        compression_level=_COMPRESSION,
    )
    return Fragment(label, len(triangles), body)
