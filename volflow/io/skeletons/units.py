"""The unit in which misplaced skeletons would fit the volume."""

from __future__ import annotations

import itertools

import numpy as np

from volflow.core.geometry import Resolution
from volflow.io.skeletons.placed_nodes import Nodes, voxels_of

AXIS_ORDERS = {"unchanged": (0, 1, 2), "x and z swapped": (2, 1, 0)}
FEWEST = 4  # nodes or edges of which the unit is judged
SHORT = 0.05  # of the shortest side of a voxel: a median edge below that is suspicious
ENOUGH = 0.5  # share of the nodes within the bounds from which a unit counts as right


def misplaced(nodes: Nodes, resolution: Resolution) -> str:
    """The problem of nodes outside the volume, with the unit in which they would fit.

    "" if at least half of them are within the bounds.
    """
    count, away = len(nodes), int(nodes.outside.sum())
    if not count:
        return "expected nodes, got none"
    if away <= count * ENOUGH:
        return ""
    low, high = nodes.position.min(axis=0), nodes.position.max(axis=0)
    size = np.array(resolution)
    first, last = np.array(nodes.bounds.start) * size, np.array(nodes.bounds.stop) * size
    return (
        f"{away} of {count} nodes are outside the volume: they span {_span(low, high)} nm "
        f"(z, y, x) and the volume {_span(first, last)} nm; {_guess(nodes, resolution)}"
    )


def suspicious(nodes: Nodes, resolution: Resolution) -> str:
    """The reason for which the unit of the positions is probably wrong; "" if there is none.

    A tracing is never within one voxel, and its nodes are seldom closer than the voxels are.
    """
    count = len(nodes)
    if count >= FEWEST and not (nodes.voxel != nodes.voxel[0]).any():
        return f"all {count} nodes are in one voxel of {_listed(resolution)} nm"
    child = np.flatnonzero(nodes.parent >= 0)
    if len(child) < FEWEST:
        return ""
    steps = nodes.position[child] - nodes.position[nodes.parent[child]]
    length = float(np.median(np.sqrt((steps**2).sum(axis=1))))
    if 0 < length < SHORT * min(resolution):
        return f"the median edge is {length:.3g} nm long, and voxels are {_listed(resolution)} nm"
    return ""


def _guess(nodes: Nodes, resolution: Resolution) -> str:
    """The unit and order of axes with most nodes within the bounds."""
    units = {
        "nanometres": (1.0, 1.0, 1.0),
        f"voxels of {_listed(resolution)} nm": resolution,
        "micrometres": (1e3, 1e3, 1e3),
        "angstroms": (0.1, 0.1, 0.1),
        "millimetres": (1e6, 1e6, 1e6),
        "metres": (1e9, 1e9, 1e9),
    }
    best, words = ENOUGH, ""
    for (order, axes), (unit, factor) in itertools.product(AXIS_ORDERS.items(), units.items()):
        voxel = voxels_of(nodes.position[:, axes] * np.array(factor), resolution)
        low, high = np.array(nodes.bounds.start), np.array(nodes.bounds.stop)
        share = float(((voxel >= low) & (voxel < high)).all(axis=1).mean())
        if share > best + 1e-9:
            best = share
            words = f"as {unit}, axes {order}, {share:.0%} of them would be inside"
    advice = "set unit_nm and axis_order in the address of SWC files"
    return f"{words or 'no common unit and order of axes brings half of them inside'}; {advice}"


def _span(low: np.ndarray, high: np.ndarray) -> str:
    return ", ".join(f"{a:.6g} to {b:.6g}" for a, b in zip(low, high, strict=True))


def _listed(values: Resolution) -> str:
    return " x ".join(f"{value:g}" for value in values)
