"""Objects such as mitochondria: cores, and what grows around them, the same whatever the blocks.

    core      voxels surely inside and not on a contour; touching ones (6 neighbours) are one core
    rim       other voxels that may be inside
    object    a core and the rim that grew to it

Affinities say all of it: 255 joins two voxels of a core, 1 to 254 tell how well others hold
together, and 0 parts. `fragments` with `high` 255 then gives fragments that hold whole cores; what
holds none joins its best neighbour, best first, until every piece of rim that can reach a core has
one. Two cores never join, so a contour that closes between two objects parts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from volflow.core.geometry import Box
from volflow.segment.agglomeration.graph_tables import shared_faces
from volflow.segment.pair_table import sum_groups

CORE = 255  # the affinity of two voxels of a core


class Levels(NamedTuple):
    """From which value, of uint8 probabilities, a voxel counts as what."""

    core: int  # inside: part of a core
    contour: int  # contour: no part of a core
    low: int  # inside: part of an object at all


def core_affinities(inside: np.ndarray, contour: np.ndarray | None, levels: Levels) -> np.ndarray:
    """Affinities that say where cores are and how what surrounds them holds together.

    A pair within a core has 255. Another pair of voxels that may be inside has the least of both
    voxels' `inside` and `255 - contour`, within 1 and 254; all others have 0.

    Parameters
    ----------
    inside : uint8, (Z + 1, Y + 1, X + 1)
        Probability of being inside of an object, over voxels and the ones before them.
    contour : uint8 array of that shape, or None
        Probability of lying on a contour; None: there is none anywhere.
    levels : Levels

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
            f"inside and contour must have one shape; got {inside.shape} and {contour.shape}"
        )
    core, hold = inside >= levels.core, inside
    if contour is not None:
        core, hold = core & (contour < levels.contour), np.minimum(inside, 255 - contour)
    hold = np.where(inside >= levels.low, np.clip(hold, 1, CORE - 1), 0).astype(np.uint8)
    own = (slice(1, None),) * 3
    found = np.empty((3, *hold[own].shape), np.uint8)
    for axis in range(3):
        before = tuple(slice(0, -1) if a == axis else slice(1, None) for a in range(3))
        pair = np.minimum(hold[own], hold[before])
        found[axis] = np.where(core[own] & core[before], CORE, pair)
    return found


def core_pairs(labels: np.ndarray, affinity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The label of each pair within a core, by the voxel that owns the pair.

    Parameters
    ----------
    labels : uint64, (Z + 2, Y + 2, X + 2)
        Pieces of a block and of one voxel around it; 0 is none.
    affinity : uint8, (3, Z, Y, X)
        Of the block alone.

    Returns
    -------
    label : uint64, (N,), ascending
        Labels with pairs.
    count : int64, (N,)

    Raises
    ------
    ValueError
        If a pair within a core joins two pieces of the block: fragments were made without `high`.
    """
    inner = slice(1, -1)
    own = labels[inner, inner, inner]
    met = []
    for axis in range(3):
        before = labels[tuple(slice(0, -2) if a == axis else inner for a in range(3))]
        joined = (affinity[axis] == CORE) & (own > 0) & (before > 0)
        inside = np.moveaxis(joined & (own != before), axis, 0)[1:]  # beyond the face it is a link
        if inside.any():
            raise ValueError(
                f"{int(inside.sum())} pairs within a core lie in two fragments: fragments of "
                f"objects are made `with: {{high: {CORE}}}`"
            )
        met.append(own[joined])
    label, count = np.unique(np.concatenate(met), return_counts=True)
    return label, count.astype(np.int64)


@dataclass(frozen=True)
class Census:
    """Objects as far as a box knows them, ascending by id."""

    id: np.ndarray  # uint64, (N,)
    voxels: np.ndarray  # int64
    pairs: np.ndarray  # int64, within cores
    faces: np.ndarray  # uint8, faces (bits, see `tables`) beyond which there may be more

    def record(self) -> dict[str, np.ndarray]:
        """The columns by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_record(cls, record: dict[str, np.ndarray]) -> Census:
        """The census of a record made by `record`, which may hold other columns too."""
        return cls(**{field.name: record[field.name] for field in fields(cls)})

    def names(self, min_size: int, min_core: int) -> np.ndarray:
        """What becomes of each object, uint64 (N,): its id, or 0 if it is whole and too small."""
        short = (self.voxels < min_size) | (self.pairs < min_core)
        found: np.ndarray = np.where((self.faces == 0) & short, 0, self.id).astype(np.uint64)
        return found

    def waiting(self) -> Census:
        """The objects of which there may be more beyond the box."""
        open = self.faces != 0
        return Census(*(getattr(self, field.name)[open] for field in fields(self)))


def pooled_census(parts: Sequence[tuple[Census, Box]], box: Box) -> Census:
    """The objects of a box from those of the boxes that make it up."""
    id = np.concatenate([census.id for census, _ in parts])
    inside = [census.faces & np.uint8(shared_faces(part, box)) for census, part in parts]
    id, number = np.unique(id, return_inverse=True)
    faces = np.zeros(len(id), np.uint8)
    np.bitwise_or.at(faces, number, np.concatenate(inside))
    voxels, pairs = (
        sum_groups(number, len(id), np.concatenate([getattr(census, name) for census, _ in parts]))
        for name in ("voxels", "pairs")
    )
    return Census(id, voxels, pairs, faces)
