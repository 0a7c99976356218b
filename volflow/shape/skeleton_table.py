"""A table of skeletons: a row each, with its size, its parts and its length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from volflow.core.geometry import Resolution, Triple
from volflow.core.skeleton import Skeleton
from volflow.core.stage import Record

TABLE = {
    "segment": "uint64",
    "voxels": "int64",  # of the volume
    "trees": "int64",
    "nodes": "int64",
    "branches": "int64",  # nodes with three edges or more
    "tips": "int64",  # nodes with one edge or none
    "length_nm": "float64",
    "radius_nm": "float64",  # the largest
    "lattice_nm": "float64",  # side of a voxel on which it was computed
    "tiled": "int64",  # 1 if it was joined from tiles
}
DECIMALS = 3


def table_row(skeleton: Skeleton, voxels: int, lattice_nm: float, tiled: bool) -> dict[str, float]:
    """The row of a skeleton with at least one node."""
    degree = np.bincount(skeleton.edges.ravel(), minlength=len(skeleton))
    return {
        "segment": skeleton.name,
        "voxels": voxels,
        "trees": int((skeleton.parent < 0).sum()),
        "nodes": len(skeleton),
        "branches": int((degree > 2).sum()),
        "tips": int((degree < 2).sum()),
        "length_nm": round(float(skeleton.lengths.sum()), DECIMALS),
        "radius_nm": round(float(skeleton.radius.max()), DECIMALS),
        "lattice_nm": lattice_nm,
        "tiled": int(tiled),
    }


def skeleton_table(rows: Sequence[Mapping[str, float]]) -> Record:
    """The columns of some rows."""
    return {name: np.array([row[name] for row in rows], dtype) for name, dtype in TABLE.items()}


def lattice_side(factor: Triple, resolution: Resolution) -> float:
    """The largest side in nanometres of a voxel that combines `factor` voxels of the volume."""
    sides = [side * voxels for side, voxels in zip(resolution, factor, strict=True)]
    return round(max(sides), DECIMALS)
