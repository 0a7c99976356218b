"""Skeletons of neurites: the axes that they were grown around, where they really run."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from volflow.core.geometry import BlockGrid, Box, zyx
from volflow.synth.bodies import bodies_near
from volflow.synth.forest import SLOTS, axes_near, body_name, lattice_of
from volflow.synth.power_diagram import REACH, chosen, nearest, settled

BRICK = 96  # voxels a side; axes are looked up per brick
STRAY = 4  # voxels that a node may lie beside its axis as the lattice has it


class Skeletons(NamedTuple):
    """Nodes and edges in a box.

    An edge is in the box that holds its first node, so those of boxes which tile a volume are
    the volume's, each once. Nodes are told apart by name, the same in every box.

    Attributes
    ----------
    names : int64 array, (N,)
        Ascending.
    owner : uint64 array, (N,)
        The label of each node's neurite.
    places : float64 array, (N, 3)
        z, y, x in voxels; an integer is the middle of a voxel.
    radii : float64 array, (N,)
        To the nearest membrane, in voxels along y and x.
    edges : int64 array, (M, 2)
        Names of both nodes; the first is further from the root.
    """

    names: np.ndarray
    owner: np.ndarray
    places: np.ndarray
    radii: np.ndarray
    edges: np.ndarray

    def places_nm(self, resolution: tuple[float, float, float]) -> np.ndarray:
        """Places in nanometres, float64 (N, 3), for voxels of this size."""
        scaled: np.ndarray = self.places * np.array(resolution)
        return scaled


def skeletons_in(seed: np.uint64, bounds: Box, cell: int, nucleus: int, box: Box) -> Skeletons:
    """The skeletons of a box, in voxels that are cubes."""
    bricks = BlockGrid(box, zyx(BRICK))
    parts = [_brick(seed, bounds, cell, nucleus, block.write) for block in bricks]
    names, owner, places, radii, edges = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    order = np.argsort(names)
    edges = edges[np.lexsort(edges.T[::-1])]
    return Skeletons(names[order], owner[order], places[order], radii[order], edges)


def _brick(seed: np.uint64, bounds: Box, cell: int, nucleus: int, box: Box) -> Skeletons:
    """The skeletons of a brick, unordered."""
    reach = REACH * cell
    axes = axes_near(seed, bounds, cell, nucleus, box.grow(zyx(STRAY)), reach + 4.0)
    names, first = np.unique(axes.nodes, return_index=True)
    warped = axes.ends.reshape(-1, 3)[first]
    # axes beyond the brick are there for the sake of distances
    near = ((warped >= np.array(box.start) - STRAY) & (warped < np.array(box.stop) + STRAY)).all(1)
    lattice = lattice_of(bounds, cell, nucleus)
    middles, numbers = bodies_near(seed, lattice.ground, box)
    bodies = np.array([body_name(lattice.sides, number) for number in numbers], np.int64)
    # the middle of a body is a node whether a process of it is near or not
    near &= names < body_name(lattice.sides, 1) * SLOTS
    names, first, warped = names[near], first[near], warped[near]
    places = settled(seed, warped)
    voxels = np.rint(places)
    here = ((voxels >= box.start) & (voxels < box.stop)).all(axis=1)
    names, first, warped, places = names[here], first[here], warped[here], places[here]
    owners, owner = np.unique(axes.owner, return_inverse=True)
    pieces = (axes.ends, axes.weights, axes.organs, owner.astype(np.int32))
    radii = _radii(*pieces, warped, reach)
    edges = axes.nodes[np.isin(axes.nodes[:, 0], names)]
    who = owners[owner[first // 2]] if len(first) else owners[:0]
    voxels = np.rint(middles)
    here = ((voxels >= box.start) & (voxels < box.stop)).all(axis=1)
    return Skeletons(
        np.concatenate([names, bodies[here] * SLOTS]),
        np.concatenate([who, bodies[here]]).astype(np.uint64),
        np.concatenate([places, middles[here]]),
        np.concatenate([radii, np.full(here.sum(), lattice.ground.radius)]),
        edges,
    )


@numba.njit(cache=True, nogil=True)
def _radii(
    ends: np.ndarray,
    weights: np.ndarray,
    organs: np.ndarray,
    owner: np.ndarray,
    places: np.ndarray,
    reach: float,
) -> np.ndarray:
    """Distance to the wall at each place, at most `reach`."""
    out = np.empty(len(places))
    everything = np.arange(len(owner))
    for n in range(len(places)):
        place = (places[n, 0], places[n, 1], places[n, 2])
        some, least = chosen(ends, weights, owner, everything, place, 1e-3, reach)
        found = nearest(ends[some], weights[some], organs[some], owner[some], least, place, reach)
        out[n] = min(reach, found[2])
    return out
