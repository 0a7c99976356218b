"""Contacts of supervoxels, block by block; rows of blocks add up.

Each pair of touching voxels is counted once, by the block that owns the voxel with the higher
index. The place of a contact is its pair of highest affinity, the first of equal ones.
"""

from __future__ import annotations

import numpy as np

from volflow.core.geometry import Block
from volflow.core.stage import Record

PAIR = ("supervoxel_1", "supervoxel_2")
SUMS = ("affinity_sum", "faces_z", "faces_y", "faces_x")
PLACE = ("z", "y", "x")


def contact_rows(block: Block, supervoxels: np.ndarray, affinity: np.ndarray) -> Record:
    """The contacts that a block counts.

    Parameters
    ----------
    block : Block
        Its halo is at least 1.
    supervoxels : uint64, (Z, Y, X) over the read box
        0 is background; 0 outside the bounds.
    affinity : uint8, (3, Z, Y, X) over the read box
        `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.

    Returns
    -------
    columns, each (N,)
        `PAIR`, uint64, the smaller one first; `SUMS`, int64: the affinities, and the pairs of
        voxels along each axis; `best`, uint8, the highest affinity, and `PLACE`, int64, the voxel
        with the higher index there.
    """
    inner = block.write.within(block.read)
    own = supervoxels[inner]
    parts = []
    for axis in range(3):
        shifted = tuple(
            slice(part.start - 1, part.stop - 1) if axis == at else part
            for at, part in enumerate(inner)
        )
        other = supervoxels[shifted]
        at = np.nonzero((own != other) & (own > 0) & (other > 0))
        a, b = own[at], other[at]
        values = affinity[axis][inner][at]
        faces = np.zeros((3, len(a)), np.int64)
        faces[axis] = 1
        places = np.stack(at) + np.array(block.write.start)[:, None]
        columns = (np.minimum(a, b), np.maximum(a, b), values.astype(np.int64), *faces)
        parts.append((*columns, values, *places))
    names = (*PAIR, *SUMS, "best", *PLACE)
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return pooled_contacts(dict(zip(names, joined, strict=True)))


def pooled_contacts(rows: Record) -> Record:
    """The rows of `contact_rows` with one for each pair, ascending by pair."""
    order = np.lexsort(
        (rows["x"], rows["y"], rows["z"], ~rows["best"], rows[PAIR[1]], rows[PAIR[0]])
    )
    rows = {name: column[order] for name, column in rows.items()}
    first = first_rows(rows, PAIR)
    pooled = {name: column[first] for name, column in rows.items()}
    if len(first):
        pooled |= {name: np.add.reduceat(rows[name], first) for name in SUMS}
    return pooled


def first_rows(rows: Record, names: tuple[str, ...]) -> np.ndarray:
    """The position of the first row of each group; rows are sorted by the columns `names`."""
    count = len(rows[names[0]])
    new = np.zeros(count, bool)
    new[:1] = True
    for name in names:
        new[1:] |= rows[name][1:] != rows[name][:-1]
    return np.flatnonzero(new)
