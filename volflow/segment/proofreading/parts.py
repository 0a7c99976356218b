"""The segment of each supervoxel, block by block; rows of blocks add up."""

from __future__ import annotations

import numpy as np

from volflow.core.geometry import Block
from volflow.core.stage import Record
from volflow.segment.proofreading.contacts import first_rows

PAIR = ("supervoxel", "segment")
FIRST, LAST = ("z0", "y0", "x0"), ("z1", "y1", "x1")
PLACE = ("z", "y", "x")


def part_rows(block: Block, supervoxels: np.ndarray, segmentation: np.ndarray) -> Record:
    """The supervoxels of a block and the segments that their voxels have.

    Parameters
    ----------
    block : Block
        Without a halo.
    supervoxels, segmentation : uint64, (Z, Y, X)
        0 is background; voxels without a supervoxel are not counted.

    Returns
    -------
    columns, each (N,)
        `PAIR`, uint64; `voxels`, int64; the half-open box `FIRST` to `LAST`, and `PLACE`, the
        first voxel, int64.
    """
    at = np.nonzero(supervoxels)
    supervoxel, segment = supervoxels[at], segmentation[at].astype(np.uint64)
    places = np.stack(at) + np.array(block.write.start)[:, None]
    rows: Record = {PAIR[0]: supervoxel, PAIR[1]: segment}
    rows["voxels"] = np.ones(len(supervoxel), np.int64)
    rows |= dict(zip(FIRST, places, strict=True))
    rows |= dict(zip(LAST, places + 1, strict=True))
    rows |= dict(zip(PLACE, places, strict=True))
    return pooled_parts(rows)


def pooled_parts(rows: Record) -> Record:
    """The rows of `part_rows` with one for each pair, ascending by pair."""
    order = np.lexsort((rows["x"], rows["y"], rows["z"], rows[PAIR[1]], rows[PAIR[0]]))
    rows = {name: column[order] for name, column in rows.items()}
    first = first_rows(rows, PAIR)
    pooled = {name: rows[name][first] for name in (*PAIR, *PLACE)}
    for names, operation in ((("voxels",), np.add), (FIRST, np.minimum), (LAST, np.maximum)):
        for name in names:
            column = rows[name]
            pooled[name] = operation.reduceat(column, first) if len(first) else column
    return pooled


def agglomeration(rows: Record) -> Record:
    """One row for each supervoxel, ascending, from the pooled rows of all blocks.

    Its segment is the one that most of its voxels have, the smallest of equal ones; the box and the
    voxels are those of the whole supervoxel.
    """
    order = np.lexsort((rows["segment"], -rows["voxels"], rows["supervoxel"]))
    rows = {name: column[order] for name, column in rows.items()}
    first = first_rows(rows, ("supervoxel",))
    chosen = {name: rows[name][first] for name in PAIR}
    whole = pooled_parts({**rows, "segment": np.zeros_like(rows["segment"])})
    return {**whole, **chosen}
