"""Skeletons made from labels, for truths that come without traced ones.

TEASAR, as bioimage-cpp has it (MIT, needs numpy alone; `pip install '.[skeletons]'`), then
smoothed: a path from voxel to voxel goes in steps of 45 degrees and is up to a fifth too long.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from volflow.core.geometry import Triple
from volflow.core.skeleton import Skeleton, from_edges

SCALE = 1.5
CONSTANT_NM = 300.0
ROUNDS = 3  # of smoothing; more of them change the length by less than 1 % a round


def skeletonize(
    labels: np.ndarray,
    resolution: tuple[float, float, float],
    *,
    start: Triple = (0, 0, 0),
    scale: float = SCALE,
    constant_nm: float = CONSTANT_NM,
    rounds: int = ROUNDS,
) -> list[Skeleton]:
    """A skeleton of each label: a tree for each of its connected pieces.

    A path claims what lies within `scale * radius + constant_nm` of it: branches that leave this
    room are found, shorter ones are taken for bumps of the surface. (On synthetic neurites the way
    from end to end is 7 % shorter than the exact centre line, which wobbles within the neurite; all
    branches together are a third shorter.) It takes about 40 bytes per
    voxel of the box around the largest object besides the labels, and looks at each label on its
    own.

    Parameters
    ----------
    labels : unsigned integer array, (Z, Y, X)
        0 is background.
    resolution : tuple of float
        Nanometres per voxel, z, y, x.
    start : Triple
        Index of the first voxel; a voxel's middle lies at its index times the resolution.
    scale : float
        Of the radius, in the room that a path claims.
    constant_nm : float
        Added to it.
    rounds : int
        Of smoothing; in each a node goes to the mean of itself and its neighbours, unless that
        is in another object. Tips stay.

    Returns
    -------
    list of Skeleton
        By name, which is the label; radii are distances to the nearest voxel of another object
        or beyond the array, in nanometres.

    Raises
    ------
    ValueError
        If labels, resolution or parameters are not as above.
    ImportError
        If bioimage-cpp is not installed.

    References
    ----------
    Sato et al., TEASAR: tree-structure extraction algorithm for accurate and robust skeletons,
    Pacific Graphics 2000. Scale and constant are those usual for neurites.
    """
    _check(labels, resolution, scale, constant_nm, rounds)
    size = np.array(resolution, np.float64)
    found = _teasar()(
        np.ascontiguousarray(labels), spacing=resolution, scale=scale, constant=constant_nm
    )
    skeletons = []
    for name, (position, edges, radius) in found.items():
        smooth = _smoothed(position, edges.astype(np.int64), labels, name, size, rounds)
        placed = smooth + np.array(start) * size
        skeletons.append(from_edges(placed, edges, radius.astype(np.float64), int(name)))
    return skeletons


def _smoothed(
    position: np.ndarray,
    edges: np.ndarray,
    labels: np.ndarray,
    name: int,
    size: np.ndarray,
    rounds: int,
) -> np.ndarray:
    """Places drawn towards their neighbours, as far as they stay in the object of that name."""
    count = np.bincount(edges.ravel(), minlength=len(position))
    moves = np.flatnonzero(count > 1)
    for _ in range(rounds):
        total = position.copy()
        for axis in range(3):
            for a, b in ((0, 1), (1, 0)):
                near = position[edges[:, b], axis]
                total[:, axis] += np.bincount(edges[:, a], weights=near, minlength=len(position))
        wanted = total[moves] / (count[moves, None] + 1)
        voxel = np.floor(wanted / size + 0.5).astype(np.int64)
        kept = labels[tuple(voxel.T)] == name  # means of places in the array are in it, too
        position = position.copy()
        position[moves[kept]] = wanted[kept]
    return position


def _check(
    labels: np.ndarray,
    resolution: tuple[float, float, float],
    scale: float,
    constant_nm: float,
    rounds: int,
) -> None:
    if labels.ndim != 3 or labels.dtype.kind != "u":
        raise ValueError(
            f"labels must be unsigned integers (Z, Y, X); got {labels.dtype} of {labels.shape}"
        )
    if len(resolution) != 3 or not all(math.isfinite(side) and side > 0 for side in resolution):
        raise ValueError(f"the resolution is three positive numbers of nm; got {resolution}")
    for name, value in (("scale", scale), ("constant_nm", constant_nm), ("rounds", rounds)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must not be negative; got {value}")


def _teasar() -> Any:
    try:
        from bioimage_cpp.skeleton import teasar_labels
    except ImportError as error:
        raise ImportError(
            "skeletons of labels are made by bioimage-cpp, which is not installed: "
            "pip install '.[skeletons]'"
        ) from error
    return teasar_labels
