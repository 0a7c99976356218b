"""Overlaps of truth labels and segments: voxel counts and coordinate sums, one row per pair.

Rows of blocks add up exactly to the rows of the volume, because counts and sums are integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from volflow.core.geometry import Triple
from volflow.kernels import kernel

FIRST_CAPACITY = 1 << 12  # slots of the first hash table; it doubles when half full


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Pairs of a truth label and a segment that share voxels.

    Attributes
    ----------
    truth, segment : uint64 array, (N,)
    count : int64 array, (N,)
        Number of voxels with both labels.
    z, y, x : int64 array, (N,)
        Sums of the coordinates of these voxels.
    """

    truth: np.ndarray
    segment: np.ndarray
    count: np.ndarray
    z: np.ndarray
    y: np.ndarray
    x: np.ndarray

    def record(self) -> dict[str, np.ndarray]:
        """The columns by name."""
        return {column.name: getattr(self, column.name) for column in fields(self)}


def count_overlaps(
    truth: np.ndarray,
    segmentation: np.ndarray,
    mask: np.ndarray | None = None,
    origin: Triple = (0, 0, 0),
    unlabelled: bool = False,
) -> Overlaps:
    """Count the overlaps in a volume or block; rows are sorted by truth label and segment.

    Parameters
    ----------
    truth, segmentation : integer or bool array, (Z, Y, X), same shape
        Labels, none of them negative. Segment 0 is counted like any other.
    mask : bool array, (Z, Y, X), optional
        False where a voxel does not count.
    origin : Triple
        Coordinates of the first voxel.
    unlabelled : bool
        Whether voxels of truth label 0 count, too.

    Raises
    ------
    ValueError
        If shapes differ, or labels are not integers or negative.
    """
    arrays = {"truth": truth, "segmentation": segmentation}
    if mask is not None:
        arrays["mask"] = mask
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise ValueError(f"expected arrays of one shape; got {shapes}")
    inside = np.ones((0, 0, 0), bool) if mask is None else np.ascontiguousarray(mask, dtype=bool)
    columns = _count(
        as_labels("truth", truth),
        as_labels("segmentation", segmentation),
        inside,
        np.array(origin, np.int64),
        unlabelled,
    )
    return sum_overlaps(dict(zip([f.name for f in fields(Overlaps)], columns, strict=True)))


def sum_overlaps(rows: Mapping[str, np.ndarray]) -> Overlaps:
    """Add the rows of the same pair of labels, and sort them."""
    truth, segment = rows["truth"], rows["segment"]
    order = np.lexsort((segment, truth))
    truth, segment = truth[order], segment[order]
    first = np.ones(len(order), bool)
    first[1:] = (truth[1:] != truth[:-1]) | (segment[1:] != segment[:-1])
    starts = np.flatnonzero(first)
    sums = [
        np.add.reduceat(rows[name][order], starts) if len(starts) else rows[name]
        for name in ("count", "z", "y", "x")
    ]
    return Overlaps(truth[starts], segment[starts], *sums)


def as_labels(name: str, labels: np.ndarray) -> np.ndarray:
    """Labels as a contiguous uint32 or uint64 array; few types, so that few kernels are compiled.

    Raises
    ------
    ValueError
        If they are not integers, or one is negative.
    """
    if labels.dtype.kind not in "buil":
        raise ValueError(f"{name}: expected integer labels; got {labels.dtype}")
    if labels.dtype.kind == "i" and labels.size and labels.min() < 0:
        raise ValueError(f"{name}: expected labels of 0 or more; got {labels.min()}")
    wide = np.uint64 if labels.dtype.itemsize > 4 else np.uint32
    return np.ascontiguousarray(labels.astype(wide, copy=False))


@kernel
def _slot(
    keys_a: np.ndarray, keys_b: np.ndarray, sums: np.ndarray, a: np.uint64, b: np.uint64
) -> np.int64:
    """The slot of a pair in the open-addressing table, or the free slot for it."""
    last = np.uint64(len(keys_a) - 1)
    mixed = (a * np.uint64(0x9E3779B97F4A7C15)) ^ (b * np.uint64(0xC2B2AE3D27D4EB4F))
    slot = (mixed ^ (mixed >> np.uint64(29))) & last
    while sums[slot, 0] and (keys_a[slot] != a or keys_b[slot] != b):
        slot = (slot + np.uint64(1)) & last
    return np.int64(slot)


@kernel
def _count(
    truth: np.ndarray,
    segment: np.ndarray,
    inside: np.ndarray,
    origin: np.ndarray,
    unlabelled: bool,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Unsorted rows; a run of one pair along x is counted before the table is looked up."""
    capacity = FIRST_CAPACITY
    keys_a = np.zeros(capacity, np.uint64)
    keys_b = np.zeros(capacity, np.uint64)
    sums = np.zeros((capacity, 4), np.int64)
    used = 0
    for z in range(truth.shape[0]):
        for y in range(truth.shape[1]):
            start = 0
            while start < truth.shape[2]:
                a, b = truth[z, y, start], segment[z, y, start]
                stop = start + 1
                while stop < truth.shape[2] and truth[z, y, stop] == a and segment[z, y, stop] == b:
                    stop += 1
                first, start = start, stop
                if a == 0 and not unlabelled:
                    continue
                run, along = stop - first, (first + stop - 1) * (stop - first) // 2
                if inside.size:
                    run, along = 0, 0
                    for x in range(first, stop):
                        run += inside[z, y, x]
                        along += inside[z, y, x] * x
                    if run == 0:
                        continue
                slot = _slot(keys_a, keys_b, sums, np.uint64(a), np.uint64(b))
                if sums[slot, 0] == 0:
                    keys_a[slot], keys_b[slot] = a, b
                    used += 1
                sums[slot, 0] += run
                sums[slot, 1] += run * (z + origin[0])
                sums[slot, 2] += run * (y + origin[1])
                sums[slot, 3] += along + run * origin[2]
                if 2 * used > capacity:
                    capacity *= 2
                    old_a, old_b, old = keys_a, keys_b, sums
                    keys_a = np.zeros(capacity, np.uint64)
                    keys_b = np.zeros(capacity, np.uint64)
                    sums = np.zeros((capacity, 4), np.int64)
                    for at in range(len(old_a)):
                        if old[at, 0]:
                            slot = _slot(keys_a, keys_b, sums, old_a[at], old_b[at])
                            keys_a[slot], keys_b[slot] = old_a[at], old_b[at]
                            sums[slot] = old[at]
    filled = np.nonzero(sums[:, 0])[0]
    rows = sums[filled]
    return (
        keys_a[filled],
        keys_b[filled],
        rows[:, 0].copy(),
        rows[:, 1].copy(),
        rows[:, 2].copy(),
        rows[:, 3].copy(),
    )
