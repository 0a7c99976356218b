"""What one block knows of synaptic clefts and of the neurons around them, as rows that add up.

A voxel near several clefts speaks for the nearest, the one of the smaller label where two are
equally near; so nothing is counted twice, and no row depends on who computed it.

    segment 0      what the block has of the cleft itself
    segment > 0    presynaptic and postsynaptic probability in that segment, near the cleft
"""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from volflow.core.geometry import Block, Triple
from volflow.segment.pair_table import sum_groups

Resolution = tuple[float, float, float]
Columns = dict[str, np.ndarray]

AXES = ("z", "y", "x")
SUMS = (
    "voxels", "z", "y", "x", "cleft_sum", "faces_z", "faces_y", "faces_x",
    "pre", "pre_z", "pre_y", "pre_x", "post", "post_z", "post_y", "post_x",
)  # fmt: skip
FIRST, LAST = ("z0", "y0", "x0"), ("z1", "y1", "x1")
NEAR = 1e-9  # by how much, of itself, a distance may be off by rounding
FAR = np.iinfo(np.int64).max


def reach_voxels(reach_nm: float, resolution: Resolution) -> Triple:
    """Voxels along each axis within a distance, one at the least."""
    z, y, x = (max(1, math.floor(reach_nm * (1 + NEAR) / side)) for side in resolution)
    return z, y, x


def synapse_rows(
    block: Block,
    clefts: np.ndarray,
    probability: np.ndarray,
    segmentation: np.ndarray | None,
    resolution: Resolution,
    reach_nm: float,
) -> Columns:
    """The rows of a block, by cleft and segment.

    Parameters
    ----------
    block : Block
        Its halo is at least `reach_voxels`.
    clefts : uint64, over the read box
        A label to each cleft, 0 elsewhere.
    probability : uint8, (3, ...) over the read box
        Of being part of a cleft, presynaptic, postsynaptic.
    segmentation : integer array over the read box, or None
        Neurons; 0 is none.
    resolution : three floats, zyx, nm
    reach_nm : float
        How far from a cleft a voxel may speak for it.

    Returns
    -------
    columns, each (N,)
        `cleft` and `segment` (uint64), the sums of `SUMS` (probabilities are sums of uint8;
        coordinates are absolute, of `pre` and `post` weighted with them; `faces_z` counts faces of
        the cleft that look along z), and the box of the cleft, `FIRST` to `LAST`, half-open.
    """
    inside = block.read.clip(block.bounds).within(block.read)
    known = np.zeros(clefts.shape, bool)
    known[inside] = True
    clefts = np.where(known, clefts, 0).astype(np.uint64, copy=False)
    parts = [_of_clefts(block, clefts, probability[0])]
    if segmentation is not None:
        neurons = np.where(known, segmentation, 0).astype(np.uint64, copy=False)
        parts.append(_of_neurons(block, clefts, probability[1:], neurons, resolution, reach_nm))
    return pooled({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def pooled(rows: Columns) -> Columns:
    """Rows with one to each pair of cleft and segment, in the order of these."""
    if not rows or not len(rows["cleft"]):
        return rows
    order = np.lexsort((rows["segment"], rows["cleft"]))
    cleft, segment = rows["cleft"][order], rows["segment"][order]
    fresh = np.ones(len(order), bool)
    fresh[1:] = (cleft[1:] != cleft[:-1]) | (segment[1:] != segment[:-1])
    starts = np.flatnonzero(fresh)
    found = {"cleft": cleft[starts], "segment": segment[starts]}
    for names, pool in ((SUMS, np.add), (FIRST, np.minimum), (LAST, np.maximum)):
        found |= {name: pool.reduceat(rows[name][order], starts) for name in names}
    return found


def _of_clefts(block: Block, clefts: np.ndarray, probability: np.ndarray) -> Columns:
    """The rows of the clefts themselves."""
    own = block.crop(clefts)
    place = np.nonzero(own)
    label, row = np.unique(own[place], return_inverse=True)
    found = _blank(label, np.zeros(len(label), np.uint64))
    found["voxels"] = np.bincount(row, minlength=len(label)).astype(np.int64)
    found["cleft_sum"] = sum_groups(row, len(label), block.crop(probability)[place])
    around = [at + start for at, start in zip(place, _inner(block), strict=True)]
    for axis, name in enumerate(AXES):
        at = place[axis] + block.write.start[axis]
        found[name] = sum_groups(row, len(label), at)
        np.minimum.at(found[FIRST[axis]], row, at)
        np.maximum.at(found[LAST[axis]], row, at + 1)
        for step in (-1, 1):
            other = [part + step * (n == axis) for n, part in enumerate(around)]
            faces = clefts[tuple(other)] != own[place]
            found[f"faces_{name}"] += sum_groups(row, len(label), faces)
    return found


def _of_neurons(
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
    asked = (neuron > 0) & ((pre > 0) | (post > 0))
    cleft = nearest_cleft(block, clefts, asked, resolution, reach_nm)
    place = np.nonzero(cleft)
    labels, first = np.unique(cleft[place], return_inverse=True)
    ids, second = np.unique(neuron[place], return_inverse=True)
    both, row = np.unique(first * len(ids) + second, return_inverse=True)
    found = _blank(labels[both // max(1, len(ids))], ids[both % max(1, len(ids))])
    for name, side in (("pre", pre), ("post", post)):
        weight = side[place].astype(np.int64)
        found[name] = sum_groups(row, len(both), weight)
        for axis, at, start in zip(AXES, place, block.write.start, strict=True):
            found[f"{name}_{axis}"] = sum_groups(row, len(both), weight * (at + start))
    return found


def nearest_cleft(
    block: Block, clefts: np.ndarray, asked: np.ndarray, resolution: Resolution, reach_nm: float
) -> np.ndarray:
    """The nearest cleft to each voxel of the write box that is asked, 0 if none is in reach.

    Parameters
    ----------
    block : Block
    clefts : uint64, over the read box
    asked : bool, over the write box
    resolution, reach_nm
        As for `synapse_rows`.
    """
    labels, numbers = np.unique(clefts, return_inverse=True)
    numbers = numbers.reshape(clefts.shape) + (0 if labels[0] == 0 else 1)
    labels = labels[labels > 0]
    halo, inner = reach_voxels(reach_nm, resolution), _inner(block)
    found = np.zeros(asked.shape, np.uint64)
    least = np.full(asked.shape, np.inf)
    for label, box in zip(labels, ndimage.find_objects(numbers), strict=True):
        here, there, own = [], [], []
        for side, room, first, count in zip(box, halo, inner, asked.shape, strict=True):
            low, high = max(side.start - room, first), min(side.stop + room, first + count)
            start, stop = min(side.start, low), max(side.stop, high)
            there.append(slice(start, stop))
            here.append(slice(low - start, max(low, high) - start))
            own.append(slice(low - first, max(low, high) - first))
        place = tuple(own)
        if not asked[place].any():
            continue
        away = ndimage.distance_transform_edt(clefts[tuple(there)] != label, sampling=resolution)
        away = away[tuple(here)]
        closer = asked[place] & (away <= reach_nm * (1 + NEAR))
        closer &= away < least[place] * (1 - NEAR)
        least[place][closer] = away[closer]
        found[place][closer] = label
    return found


def _blank(cleft: np.ndarray, segment: np.ndarray) -> Columns:
    """Rows that say nothing yet."""
    found = {"cleft": cleft.astype(np.uint64), "segment": segment.astype(np.uint64)}
    found |= {name: np.zeros(len(cleft), np.int64) for name in SUMS}
    found |= {name: np.full(len(cleft), FAR) for name in FIRST}
    return found | {name: np.full(len(cleft), -FAR) for name in LAST}


def _inner(block: Block) -> Triple:
    """Where in the read box the write box starts."""
    z, y, x = (a - b for a, b in zip(block.write.start, block.read.start, strict=True))
    return z, y, x
