"""Objects such as mitochondria: cores and the rims that join them, for any block shape.

    core      connected (6 neighbours) voxels that are confidently inside and not on a contour
    rim       other voxels that may be inside
    object    a core and the rim that joined it

All of this is encoded in affinities: 255 joins two voxels of a core, 1 to 254 grade how strongly
other voxels belong together, and 0 separates. `fragments` with `high` 255 then yields fragments
that contain whole cores. Fragments without a core join their best neighbour, best first, until
every piece of rim connected to a core is part of an object. Two cores never join, so a closed
contour between two objects separates them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from volflow.core.geometry import Box
from volflow.segment.agglomeration.graph_tables import shared_faces
from volflow.segment.pair_table import sum_groups

CORE = 255  # the affinity of two voxels of a core


class Levels(NamedTuple):
    """Thresholds on uint8 probabilities, inclusive."""

    core: int  # of `inside`: the voxel may be part of a core
    contour: int  # of `contour`: the voxel is not part of a core
    low: int  # of `inside`: the voxel may be part of an object

    @classmethod
    def of_probabilities(cls, core: float, contour: float, low: float) -> Levels:
        """The smallest uint8 values that represent at least these probabilities."""
        return cls(*(math.ceil(255 * share - 1e-9) for share in (core, contour, low)))


def core_affinities(inside: np.ndarray, contour: np.ndarray | None, levels: Levels) -> np.ndarray:
    """Affinities that encode the cores of objects and the rims around them.

    A pair of voxels within a core has affinity 255. Any other pair of voxels that may be inside
    has the minimum of both voxels' `inside` and `255 - contour`, clipped to 1 to 254. All other
    pairs have 0.

    Parameters
    ----------
    inside : uint8, (Z + 1, Y + 1, X + 1)
        `round(255 p)` of the probability of being inside an object, over the block and one more
        voxel before it along each axis.
    contour : uint8, (Z + 1, Y + 1, X + 1), or None
        `round(255 p)` of the probability of being on a contour; None: no contours.
    levels : Levels
        The thresholds.

    Returns
    -------
    uint8, (3, Z, Y, X)
        Channel c joins a voxel with the one before it along axis c.

    Raises
    ------
    ValueError
        If the two arrays differ in shape.
    """
    if contour is not None and contour.shape != inside.shape:
        raise ValueError(
            f"expected inside and contour of one shape; got {inside.shape} and {contour.shape}"
        )
    core, strength = inside >= levels.core, inside
    if contour is not None:
        core, strength = core & (contour < levels.contour), np.minimum(inside, 255 - contour)
    strength = np.where(inside >= levels.low, np.clip(strength, 1, CORE - 1), 0).astype(np.uint8)
    own = (slice(1, None),) * 3
    affinity = np.empty((3, *strength[own].shape), np.uint8)
    for axis in range(3):
        before = tuple(slice(0, -1) if a == axis else slice(1, None) for a in range(3))
        pair = np.minimum(strength[own], strength[before])
        affinity[axis] = np.where(core[own] & core[before], CORE, pair)
    return affinity


def core_pairs(labels: np.ndarray, affinity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number of pairs of voxels within cores, by the label of the voxel that owns the pair.

    Parameters
    ----------
    labels : uint64, (Z + 2, Y + 2, X + 2)
        Pieces of a block and of a margin of one voxel; 0 is background.
    affinity : uint8, (3, Z, Y, X)
        Affinities of the block alone.

    Returns
    -------
    label : uint64, (N,), ascending
        Labels that own at least one pair.
    count : int64, (N,)
        Number of pairs of each.

    Raises
    ------
    ValueError
        If a pair within a core joins two pieces of the block: the fragments were computed without
        `high`.
    """
    inner = slice(1, -1)
    own = labels[inner, inner, inner]
    owners = []
    for axis in range(3):
        before = labels[tuple(slice(0, -2) if a == axis else inner for a in range(3))]
        joined = (affinity[axis] == CORE) & (own > 0) & (before > 0)
        inside = np.moveaxis(joined & (own != before), axis, 0)[1:]  # across the face: a link
        if inside.any():
            raise ValueError(
                f"{int(inside.sum())} pairs within a core span two fragments; give the step "
                f"`fragments` of objects `with: {{high: {CORE}}}`"
            )
        owners.append(own[joined])
    label, count = np.unique(np.concatenate(owners), return_counts=True)
    return label, count.astype(np.int64)


@dataclass(frozen=True)
class ObjectTable:
    """The objects in a box, ascending by id, with the sizes that are known so far.

    id : uint64, (N,)
    voxels : int64, (N,)
        Voxels within the box.
    pairs : int64, (N,)
        Pairs of voxels within cores, inside the box.
    faces : uint8, (N,)
        Faces of the box beyond which the object may continue, as bits (see `graph_tables`).
    """

    id: np.ndarray
    voxels: np.ndarray
    pairs: np.ndarray
    faces: np.ndarray

    def record(self) -> dict[str, np.ndarray]:
        """The columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_record(cls, record: dict[str, np.ndarray]) -> ObjectTable:
        """The table of a record made by `record`, which may have further columns."""
        return cls(**{field.name: record[field.name] for field in fields(cls)})

    def names(self, min_size: int, min_core: int) -> np.ndarray:
        """New ids, uint64 (N,): the id itself, or 0 for an object that is whole and too small."""
        small = (self.voxels < min_size) | (self.pairs < min_core)
        names: np.ndarray = np.where((self.faces == 0) & small, 0, self.id).astype(np.uint64)
        return names

    def unfinished(self) -> ObjectTable:
        """The objects that may continue beyond the box."""
        continues = self.faces != 0
        return ObjectTable(*(getattr(self, field.name)[continues] for field in fields(self)))


def merged_objects(parts: Sequence[tuple[ObjectTable, Box]], box: Box) -> ObjectTable:
    """The objects of a box from those of the boxes that make it up."""
    ids = np.concatenate([objects.id for objects, _ in parts])
    inside = [objects.faces & np.uint8(shared_faces(part, box)) for objects, part in parts]
    ids, number = np.unique(ids, return_inverse=True)
    faces = np.zeros(len(ids), np.uint8)
    np.bitwise_or.at(faces, number, np.concatenate(inside))
    voxels, pairs = (
        sum_groups(
            number, len(ids), np.concatenate([getattr(objects, name) for objects, _ in parts])
        )
        for name in ("voxels", "pairs")
    )
    return ObjectTable(ids, voxels, pairs, faces)
