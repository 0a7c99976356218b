"""Skeletons of synthetic neurites: their axes, at undisplaced positions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from volflow.core.geometry import BlockGrid, Box, zyx
from volflow.kernels import kernel
from volflow.synth.bodies import bodies_near
from volflow.synth.forest import SLOTS, axes_near, body_name, lattice_of
from volflow.synth.power_diagram import REACH, candidate_pieces, nearest_neurite, unwarped

BRICK = 96  # voxels a side; axes are looked up per brick
STRAY = 4  # largest distance in voxels between a node and its displaced position on the axis


class Skeletons(NamedTuple):
    """Nodes and edges in a box.

    An edge belongs to the box that contains its first node, so boxes that tile a volume contain
    each edge once. Nodes are identified by names, which are the same in every box.

    Attributes
    ----------
    names : int64 array, (N,)
        Ascending.
    owner : uint64 array, (N,)
        The label of each node's neurite.
    places : float64 array, (N, 3)
        z, y, x in voxels; integers are centres of voxels.
    radii : float64 array, (N,)
        Distance to the nearest membrane in voxels along y and x.
    edges : int64 array, (M, 2)
        Names of both nodes; the first is further from the root.
    """

    names: np.ndarray
    owner: np.ndarray
    places: np.ndarray
    radii: np.ndarray
    edges: np.ndarray

    def places_nm(self, resolution: tuple[float, float, float]) -> np.ndarray:
        """Positions of the nodes in nanometres, float64 (N, 3), for voxels of this size."""
        scaled: np.ndarray = self.places * np.array(resolution)
        return scaled


def skeletons_in(seed: np.uint64, bounds: Box, cell: int, nucleus: int, box: Box) -> Skeletons:
    """The skeletons in a box of cubic voxels."""
    bricks = BlockGrid(box, zyx(BRICK))
    parts = [_brick(seed, bounds, cell, nucleus, block.write) for block in bricks]
    names, owner, places, radii, edges = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    order = np.argsort(names)
    edges = edges[np.lexsort(edges.T[::-1])]
    return Skeletons(names[order], owner[order], places[order], radii[order], edges)


def _brick(seed: np.uint64, bounds: Box, cell: int, nucleus: int, box: Box) -> Skeletons:
    """The skeletons in a brick, unordered."""
    reach = REACH * cell
    axes = axes_near(seed, bounds, cell, nucleus, box.grow(zyx(STRAY)), reach + 4.0)
    names, first = np.unique(axes.nodes, return_index=True)
    warped = axes.ends.reshape(-1, 3)[first]
    # Axes beyond the brick are needed for distances to membranes only.
    near = ((warped >= np.array(box.start) - STRAY) & (warped < np.array(box.stop) + STRAY)).all(1)
    lattice = lattice_of(bounds, cell, nucleus)
    centres, numbers = bodies_near(seed, lattice.bodies, box)
    body_names = np.array([body_name(lattice.sides, number) for number in numbers], np.int64)
    # Centres of bodies are added below, whether or not one of their processes is near.
    near &= names < body_name(lattice.sides, 1) * SLOTS
    names, first, warped = names[near], first[near], warped[near]
    places = unwarped(seed, warped)
    voxels = np.rint(places)
    inside = ((voxels >= box.start) & (voxels < box.stop)).all(axis=1)
    names, first, warped, places = names[inside], first[inside], warped[inside], places[inside]
    owners, owner = np.unique(axes.owner, return_inverse=True)
    pieces = (axes.ends, axes.weights, axes.organs, owner.astype(np.int32))
    radii = _radii(*pieces, warped, reach)
    edges = axes.nodes[np.isin(axes.nodes[:, 0], names)]
    labels = owners[owner[first // 2]] if len(first) else owners[:0]
    voxels = np.rint(centres)
    inside = ((voxels >= box.start) & (voxels < box.stop)).all(axis=1)
    return Skeletons(
        np.concatenate([names, body_names[inside] * SLOTS]),
        np.concatenate([labels, body_names[inside]]).astype(np.uint64),
        np.concatenate([places, centres[inside]]),
        np.concatenate([radii, np.full(inside.sum(), lattice.bodies.radius)]),
        edges,
    )


@kernel
def _radii(
    ends: np.ndarray,
    weights: np.ndarray,
    organs: np.ndarray,
    owner: np.ndarray,
    places: np.ndarray,
    reach: float,
) -> np.ndarray:
    """Distance to the wall at each place in voxels, at most `reach`."""
    out = np.empty(len(places))
    everything = np.arange(len(owner))
    for n in range(len(places)):
        place = (places[n, 0], places[n, 1], places[n, 2])
        candidates, least = candidate_pieces(ends, weights, owner, everything, place, 1e-3, reach)
        neurite_at = nearest_neurite(
            ends[candidates],
            weights[candidates],
            organs[candidates],
            owner[candidates],
            least,
            place,
            reach,
        )
        out[n] = min(reach, neurite_at[2])
    return out
