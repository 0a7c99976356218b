"""In which unit misplaced skeletons would lie where the volume is."""

from __future__ import annotations

import itertools

import numpy as np

from volflow.io.skeletons.placed_nodes import Nodes, Resolution, voxels_of

AXIS_ORDERS = {"as they are": (0, 1, 2), "x and z swapped": (2, 1, 0)}
ENOUGH = 0.5  # share of the nodes within the bounds from which their unit is believed


def misplaced(nodes: Nodes, resolution: Resolution) -> str:
    """What is wrong with where nodes lie, in words, and in which unit they would fit.

    Empty if at least half of them lie within the bounds.
    """
    count, away = len(nodes), int(nodes.outside.sum())
    if not count:
        return "there are no nodes in it"
    if away <= count * ENOUGH:
        return ""
    low, high = nodes.position.min(axis=0), nodes.position.max(axis=0)
    size = np.array(resolution)
    first, last = np.array(nodes.bounds.start) * size, np.array(nodes.bounds.stop) * size
    return (
        f"{away} of {count} nodes lie outside the volume: they span {_span(low, high)} nm "
        f"(z, y, x) and the volume {_span(first, last)} nm; {_guess(nodes, resolution)}"
    )


def _guess(nodes: Nodes, resolution: Resolution) -> str:
    """The unit and order of axes in which most nodes would lie within the bounds."""
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
            words = f"read as {unit}, axes {order}, {share:.0%} of them would lie inside"
    advice = "unit_nm and axis_order of the address say how SWC files are read"
    return f"{words or 'no unit or order of axes tried brings half of them inside'}; {advice}"


def _span(low: np.ndarray, high: np.ndarray) -> str:
    return ", ".join(f"{a:.6g} to {b:.6g}" for a, b in zip(low, high, strict=True))


def _listed(values: Resolution) -> str:
    return " x ".join(f"{value:g}" for value in values)
