"""Skeletons computed from labels, and from the runs of one segment.

They are computed by TEASAR in bioimage-cpp (MIT, depends on numpy only;
`pip install '.[skeletons]'`) and then smoothed: a path from voxel to voxel turns in steps of 45
degrees, so it is up to a fifth too long.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from volflow.core.geometry import Resolution, Triple, zyx
from volflow.core.skeleton import Skeleton, from_edges
from volflow.core.stage import Record
from volflow.shape.forest_parents import forest_parents
from volflow.shape.runs import box_of, coarser_factor, coarser_runs, is_inside, mask_of
from volflow.shape.tiles import tile_side, tiled_forest

SCALE = 1.5
CONSTANT_NM = 300.0
ROUNDS = 3  # of smoothing; each further round changes the length by less than 1 %
INSTALL = "pip install '.[skeletons]'"
DECIMALS = 3  # of positions and radii in nm
BYTES_PER_VOXEL = 40  # of the bounding box of an object, while it is skeletonized


@dataclass(frozen=True, slots=True)
class SkeletonOptions:
    """Parameters of skeletons; see `skeletonize`."""

    scale: float = SCALE
    constant_nm: float = CONSTANT_NM
    rounds: int = ROUNDS


def skeletonize(
    labels: np.ndarray,
    resolution: tuple[float, float, float],
    *,
    start: Triple = (0, 0, 0),
    scale: float = SCALE,
    constant_nm: float = CONSTANT_NM,
    rounds: int = ROUNDS,
) -> list[Skeleton]:
    """A skeleton of each label, with a tree for each of its connected pieces.

    A path invalidates the voxels within `scale * radius + constant_nm`: branches that leave this
    region are kept, shorter ones are treated as bumps of the surface. (On synthetic neurites the
    path from end to end is 7 % shorter than the exact centre line, which wobbles within the
    neurite; the sum of all branches is a third shorter.) Besides the labels it needs about 40
    bytes per voxel of the bounding box of the largest object; labels are processed one by one.

    Parameters
    ----------
    labels : unsigned integer array, (Z, Y, X)
        0 is background.
    resolution : tuple of float
        Nanometres per voxel, z, y, x.
    start : Triple
        Index of the first voxel; a voxel is centred at its index times the resolution.
    scale : float
        Factor of the radius in the region that a path invalidates.
    constant_nm : float
        Distance added to it, in nanometres.
    rounds : int
        Rounds of smoothing. In each, a node moves to the mean of itself and its neighbours,
        unless that is in another object. Tips do not move.

    Returns
    -------
    list of Skeleton
        Named after their labels; radii are distances to the nearest voxel of another object or
        outside the array, in nanometres.

    Raises
    ------
    ValueError
        If labels, resolution or parameters are out of range.
    ImportError
        If bioimage-cpp is not installed.

    References
    ----------
    Sato et al., TEASAR: tree-structure extraction algorithm for accurate and robust skeletons,
    Pacific Graphics 2000. Scale and constant are the usual values for neurites.
    """
    _check(labels, resolution, scale, constant_nm, rounds)
    size = np.array(resolution, np.float64)
    trees = _library().teasar_labels(
        np.ascontiguousarray(labels), spacing=resolution, scale=scale, constant=constant_nm
    )
    skeletons = []
    for name, (position, edges, radius) in trees.items():
        smooth = _smooth(position, edges.astype(np.int64), _is_label(labels, name), size, rounds)
        placed = smooth + np.array(start) * size
        skeletons.append(from_edges(placed, edges, radius.astype(np.float64), int(name)))
    return skeletons


def segment_skeleton(
    runs: Record,
    name: int,
    factor: Triple,
    resolution: Resolution,
    options: SkeletonOptions = SkeletonOptions(),
    tiles: int = 0,
) -> Skeleton:
    """The skeleton of one segment, from its merged runs: a tree for each connected piece.

    Parameters
    ----------
    runs : Record
        See `volflow/shape/runs.py`; at least one.
    name : int
        Id of the segment.
    factor : (int, int, int)
        Voxels per coarse voxel.
    resolution : (float, float, float)
        Nanometres per voxel of the volume, z, y, x.
    options : SkeletonOptions
    tiles : int
        Side in coarse voxels of tiles that are computed one by one and joined; 0: as a whole.

    Returns
    -------
    Skeleton
        Voxel i of the volume is centred at i times the resolution. The surface of coarse voxels is
        outside that of the segment, by (factor - 1) / 2 voxels on average; radii are smaller by
        that, and at least half the shortest side of a voxel.

    Raises
    ------
    ImportError
        If bioimage-cpp is not installed.
    """
    side, voxels = np.array(resolution, np.float64), np.array(factor, np.float64)
    coarse = side * voxels
    spacing = (float(coarse[0]), float(coarse[1]), float(coarse[2]))
    scale, constant = options.scale, options.constant_nm
    if tiles:
        library = importlib.import_module(f"{_library().__name__}.distributed")
        position, edges, radius = tiled_forest(library, runs, tiles, spacing, scale, constant)
        smooth = _smooth(position, edges, is_inside(runs), coarse, options.rounds)
    else:
        mask, start = mask_of(runs)
        position, edges, radius = _library().teasar(
            mask, spacing=spacing, scale=scale, constant=constant
        )
        edges = edges.astype(np.int64)
        smooth = _smooth(position, edges, _is_label(mask, 1), coarse, options.rounds)
        smooth = smooth + start * coarse
    placed = np.round(smooth + (voxels - 1) / 2 * side, DECIMALS)
    beyond = float(((voxels - 1) / 2 * side).mean())
    radius = np.maximum(radius.astype(np.float64) - beyond, side.min() / 2)
    parents = forest_parents(len(placed), edges)
    return Skeleton(name, placed, parents, np.round(radius, DECIMALS))


def within_budget(
    runs: Record, factor: Triple, resolution: Resolution, budget: int, coarsest_nm: float
) -> tuple[Record, Triple, int]:
    """The runs of a segment on the finest lattice where its bounding box fits the budget.

    Parameters
    ----------
    runs : Record
        Merged runs of one segment.
    factor : (int, int, int)
        Voxels per coarse voxel of these runs.
    resolution : (float, float, float)
        Nanometres per voxel of the volume, z, y, x.
    budget : int
        Largest number of coarse voxels of the bounding box, at least 8.
    coarsest_nm : float
        The lattice is made coarser up to this side of a voxel.

    Returns
    -------
    runs : Record
    factor : (int, int, int)
    tiles : int
        Side of the tiles if it does not fit the budget on the coarsest lattice either; else 0.
    """
    while math.prod(box_of(runs)[1].tolist()) > budget:
        coarser = coarser_factor(resolution, factor)
        if (
            max(side * voxels for side, voxels in zip(resolution, coarser, strict=True))
            > coarsest_nm
        ):
            return runs, factor, tile_side(budget)
        runs, factor = coarser_runs(runs, zyx(coarser) // factor), coarser
    return runs, factor, 0


def missing_library() -> str:
    """A sentence on the library that skeletons need, with its install line; "" if it is there."""
    if importlib.util.find_spec("bioimage_cpp") is not None:
        return ""
    return f"skeletons of labels need bioimage-cpp, which is not installed: {INSTALL}"


def _smooth(
    position: np.ndarray,
    edges: np.ndarray,
    is_inside: Callable[[np.ndarray], np.ndarray],
    size: np.ndarray,
    rounds: int,
) -> np.ndarray:
    """Positions moved towards their neighbours, where their voxels stay inside."""
    count = np.bincount(edges.ravel(), minlength=len(position))
    moves = np.flatnonzero(count > 1)
    for _ in range(rounds):
        total = position.copy()
        for axis in range(3):
            for a, b in ((0, 1), (1, 0)):
                near = position[edges[:, b], axis]
                total[:, axis] += np.bincount(edges[:, a], weights=near, minlength=len(position))
        target = total[moves] / (count[moves, None] + 1)
        voxel = np.floor(target / size + 0.5).astype(np.int64)
        valid = is_inside(voxel)
        position = position.copy()
        position[moves[valid]] = target[valid]
    return position


def _is_label(labels: np.ndarray, name: int) -> Callable[[np.ndarray], np.ndarray]:
    """Whether voxels (N, 3) of an array have a label; none is outside, as means of inner ones."""
    return lambda voxel: np.asarray(labels[tuple(voxel.T)] == name)


def _check(
    labels: np.ndarray,
    resolution: tuple[float, float, float],
    scale: float,
    constant_nm: float,
    rounds: int,
) -> None:
    if labels.ndim != 3 or labels.dtype.kind != "u":
        raise ValueError(
            f"labels: expected unsigned integers (Z, Y, X); got {labels.dtype} {labels.shape}"
        )
    if len(resolution) != 3 or not all(math.isfinite(side) and side > 0 for side in resolution):
        raise ValueError(f"resolution: expected three positive numbers of nm; got {resolution}")
    for name, value in (("scale", scale), ("constant_nm", constant_nm), ("rounds", rounds)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}: expected 0 or more; got {value}")


def _library() -> Any:
    try:
        from bioimage_cpp import skeleton
    except ImportError as error:
        raise ImportError(
            f"skeletons of labels need bioimage-cpp, which is not installed: {INSTALL}"
        ) from error
    return skeleton
