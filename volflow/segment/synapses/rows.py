"""Rows of synaptic clefts and the neurons around them, block by block; rows of blocks add up.

A voxel near several clefts counts for the nearest one, ties for the smaller label. So no voxel is
counted twice, and rows do not depend on the block that computes them.

    segment 0      statistics of the cleft's own voxels in the block
    segment > 0    presynaptic and postsynaptic probability in that segment near the cleft
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from volflow.core.geometry import Block, Resolution, Triple
from volflow.segment.pair_table import sum_groups

Columns = dict[str, np.ndarray]

AXES = ("z", "y", "x")
SUMS = (
    "voxels", "z", "y", "x", "cleft_sum", "faces_z", "faces_y", "faces_x",
    "pre", "pre_z", "pre_y", "pre_x", "post", "post_z", "post_y", "post_x",
)  # fmt: skip
FIRST, LAST = ("z0", "y0", "x0"), ("z1", "y1", "x1")
NEAR = 1e-9  # relative tolerance for rounding of distances
FAR = np.iinfo(np.int64).max


def reach_voxels(reach_nm: float, resolution: Resolution) -> Triple:
    """Number of voxels along each axis within `reach_nm`, at least one."""
    z, y, x = (max(1, math.floor(reach_nm * (1 + NEAR) / side)) for side in resolution)
    return z, y, x


def synapse_rows(
    block: Block,
    clefts: np.ndarray,
    probability: np.ndarray,
    segmentation: np.ndarray | None,
    *,
    resolution: Resolution,
    reach_nm: float,
) -> Columns:
    """The rows of a block, by cleft and segment.

    Parameters
    ----------
    block : Block
        Its halo is at least `reach_voxels`.
    clefts : uint64, (Z, Y, X) over the read box
        A label per cleft; 0 is background.
    probability : uint8, (3, Z, Y, X) over the read box
        `round(255 p)` of being part of a cleft, presynaptic, and postsynaptic.
    segmentation : integers, (Z, Y, X) over the read box, or None
        Neurons; 0 is background.
    resolution : three floats
        Voxel size z, y, x in nm.
    reach_nm : float
        Largest distance in nm at which a voxel counts for a cleft.

    Returns
    -------
    columns, each (N,)
        `cleft` and `segment` (uint64); the sums of `SUMS` (int64): probabilities as sums of
        uint8, absolute voxel coordinates, those of `pre` and `post` weighted by the
        probabilities, and in `faces_z` the number of faces of the cleft perpendicular to z; and
        the half-open box of the cleft, `FIRST` to `LAST`.
    """
    inside = block.read.clip(block.bounds).within(block.read)
    known = np.zeros(clefts.shape, bool)
    known[inside] = True
    clefts = np.where(known, clefts, 0).astype(np.uint64, copy=False)
    parts = [_cleft_rows(block, clefts, probability[0])]
    if segmentation is not None:
        neurons = np.where(known, segmentation, 0).astype(np.uint64, copy=False)
        parts.append(_neuron_rows(block, clefts, probability[1:], neurons, resolution, reach_nm))
    return pooled_rows({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def pooled_rows(rows: Columns) -> Columns:
    """Rows pooled to one per pair of cleft and segment, in ascending order."""
    if not rows or not len(rows["cleft"]):
        return rows
    order = np.lexsort((rows["segment"], rows["cleft"]))
    cleft, segment = rows["cleft"][order], rows["segment"][order]
    new_pair = np.ones(len(order), bool)
    new_pair[1:] = (cleft[1:] != cleft[:-1]) | (segment[1:] != segment[:-1])
    starts = np.flatnonzero(new_pair)
    pooled = {"cleft": cleft[starts], "segment": segment[starts]}
    for names, pool in ((SUMS, np.add), (FIRST, np.minimum), (LAST, np.maximum)):
        pooled |= {name: pool.reduceat(rows[name][order], starts) for name in names}
    return pooled


def _cleft_rows(block: Block, clefts: np.ndarray, probability: np.ndarray) -> Columns:
    """The rows of the clefts themselves."""
    own = block.crop(clefts)
    place = np.nonzero(own)
    label, row = np.unique(own[place], return_inverse=True)
    rows = _empty_rows(label, np.zeros(len(label), np.uint64))
    rows["voxels"] = np.bincount(row, minlength=len(label)).astype(np.int64)
    rows["cleft_sum"] = sum_groups(row, len(label), block.crop(probability)[place])
    position = [at + start for at, start in zip(place, _write_offset(block), strict=True)]
    for axis, name in enumerate(AXES):
        at = place[axis] + block.write.start[axis]
        rows[name] = sum_groups(row, len(label), at)
        np.minimum.at(rows[FIRST[axis]], row, at)
        np.maximum.at(rows[LAST[axis]], row, at + 1)
        for step in (-1, 1):
            other = [part + step * (n == axis) for n, part in enumerate(position)]
            faces = clefts[tuple(other)] != own[place]
            rows[f"faces_{name}"] += sum_groups(row, len(label), faces)
    return rows


def _neuron_rows(
    block: Block,
    clefts: np.ndarray,
    sides: np.ndarray,
    neurons: np.ndarray,
    resolution: Resolution,
    reach_nm: float,
) -> Columns:
    """The rows of neurons near clefts."""
    pre, post = (block.crop(side) for side in sides)
    neuron = block.crop(neurons)
    candidate = (neuron > 0) & ((pre > 0) | (post > 0))
    cleft = nearest_cleft(block, clefts, candidate, resolution, reach_nm)
    place = np.nonzero(cleft)
    labels, first = np.unique(cleft[place], return_inverse=True)
    ids, second = np.unique(neuron[place], return_inverse=True)
    pairs, row = np.unique(first * len(ids) + second, return_inverse=True)
    rows = _empty_rows(labels[pairs // max(1, len(ids))], ids[pairs % max(1, len(ids))])
    for name, side in (("pre", pre), ("post", post)):
        weight = side[place].astype(np.int64)
        rows[name] = sum_groups(row, len(pairs), weight)
        for axis, at, start in zip(AXES, place, block.write.start, strict=True):
            rows[f"{name}_{axis}"] = sum_groups(row, len(pairs), weight * (at + start))
    return rows


def nearest_cleft(
    block: Block, clefts: np.ndarray, selected: np.ndarray, resolution: Resolution, reach_nm: float
) -> np.ndarray:
    """The label of the nearest cleft to each selected voxel of the write box; 0: none in reach.

    Parameters
    ----------
    block : Block
    clefts : uint64, (Z, Y, X) over the read box
    selected : bool, (Z, Y, X) over the write box
    resolution, reach_nm
        As for `synapse_rows`.

    Returns
    -------
    uint64, (Z, Y, X) over the write box
    """
    labels, numbers = np.unique(clefts, return_inverse=True)
    numbers = numbers.reshape(clefts.shape) + (0 if labels[0] == 0 else 1)
    labels = labels[labels > 0]
    halo, inner = reach_voxels(reach_nm, resolution), _write_offset(block)
    nearest = np.zeros(selected.shape, np.uint64)
    shortest = np.full(selected.shape, np.inf)
    for label, box in zip(labels, ndimage.find_objects(numbers), strict=True):
        here, there, own = [], [], []
        for side, margin, first, count in zip(box, halo, inner, selected.shape, strict=True):
            low, high = max(side.start - margin, first), min(side.stop + margin, first + count)
            start, stop = min(side.start, low), max(side.stop, high)
            there.append(slice(start, stop))
            here.append(slice(low - start, max(low, high) - start))
            own.append(slice(low - first, max(low, high) - first))
        place = tuple(own)
        if not selected[place].any():
            continue
        distance = ndimage.distance_transform_edt(
            clefts[tuple(there)] != label, sampling=resolution
        )
        distance = distance[tuple(here)]
        closer = selected[place] & (distance <= reach_nm * (1 + NEAR))
        closer &= distance < shortest[place] * (1 - NEAR)
        shortest[place][closer] = distance[closer]
        nearest[place][closer] = label
    return nearest


def _empty_rows(cleft: np.ndarray, segment: np.ndarray) -> Columns:
    """Rows of pairs of clefts and segments, all sums 0 and all boxes empty."""
    rows = {"cleft": cleft.astype(np.uint64), "segment": segment.astype(np.uint64)}
    rows |= {name: np.zeros(len(cleft), np.int64) for name in SUMS}
    rows |= {name: np.full(len(cleft), FAR) for name in FIRST}
    return rows | {name: np.full(len(cleft), -FAR) for name in LAST}


def _write_offset(block: Block) -> Triple:
    """The start of the write box relative to the read box."""
    return block.write.start - block.read.start
