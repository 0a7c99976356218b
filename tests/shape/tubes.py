"""Tubes around polylines, painted into volumes."""

from __future__ import annotations

import itertools

import numpy as np

from volflow.core.geometry import Box, Resolution


def tube(bounds: Box, line_nm: np.ndarray, radius_nm: float, resolution: Resolution) -> np.ndarray:
    """The voxels of a box within a radius of a polyline, (N, 3) in nm z, y, x; bool (Z, Y, X)."""
    side = np.array(resolution)
    inside = np.zeros(bounds.shape, bool)
    for a, b in itertools.pairwise(np.asarray(line_nm, float)):
        low = np.floor((np.minimum(a, b) - radius_nm) / side).astype(int)
        high = np.ceil((np.maximum(a, b) + radius_nm) / side).astype(int) + 1
        box = Box(tuple(low.tolist()), tuple(high.tolist())).clip(bounds)
        if not box.size:
            continue
        centres = np.stack(np.indices(box.shape), axis=-1) + np.array(box.start)
        from_a = centres * side - a
        way = b - a
        share = np.clip(from_a @ way / (way @ way), 0, 1)
        near = np.linalg.norm(from_a - share[..., None] * way, axis=-1) <= radius_nm
        inside[box.within(bounds)] |= near
    return inside


def helix(turns: float, radius_nm: float, pitch_nm: float, centre_nm: np.ndarray) -> np.ndarray:
    """Points of a helix along z, (N, 3) in nm."""
    turn = np.linspace(0, 2 * np.pi * turns, int(40 * turns))
    return np.stack(
        [
            centre_nm[0] + pitch_nm * turn / (2 * np.pi),
            centre_nm[1] + radius_nm * np.sin(turn),
            centre_nm[2] + radius_nm * np.cos(turn),
        ],
        axis=1,
    )


def length_of(line_nm: np.ndarray) -> float:
    """Length of a polyline in nm."""
    return float(np.linalg.norm(np.diff(line_nm, axis=0), axis=1).sum())
