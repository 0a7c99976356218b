"""Segments as runs of coarse voxels along x: small enough to bring a whole segment together.

A coarse voxel covers `factor` voxels of a lattice that begins at voxel 0 of the volume. It is part
of a segment if one of its voxels is, so a segment in one piece stays in one piece, however thin,
and the coarse voxels of two segments may overlap. Runs of several blocks are merged without
ambiguity: wherever a volume was cut, the merged runs are the same.

    columns     segment uint64 | z, y, x, stop int64 | voxels int64
                coarse voxels (z, y, x) to (z, y, stop - 1); voxels of the volume that they cover
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from volflow.core.geometry import Resolution, Triple, zyx
from volflow.core.stage import Record
from volflow.kernels import kernel

COLUMNS = ("segment", "z", "y", "x", "stop", "voxels")
LARGEST_FACTOR = 1 << 20


def factor_of(resolution: Resolution, side_nm: float) -> Triple:
    """Voxels per coarse voxel: on each axis the largest power of two of at most that length."""
    factor = []
    for side in resolution:
        voxels = 1
        while 2 * voxels * side <= side_nm and voxels < LARGEST_FACTOR:
            voxels *= 2
        factor.append(voxels)
    return zyx(factor)


def coarser_factor(resolution: Resolution, factor: Triple) -> Triple:
    """The next coarser factor: twice along each axis whose side is less than twice the smallest."""
    sides = [side * voxels for side, voxels in zip(resolution, factor, strict=True)]
    pairs = zip(factor, sides, strict=True)
    return zyx([voxels * (2 if side < 2 * min(sides) else 1) for voxels, side in pairs])


def block_runs(labels: np.ndarray, start: Triple, factor: Triple) -> Record:
    """The runs of all segments of a block, merged.

    Parameters
    ----------
    labels : uint64, (Z, Y, X)
        0 is background.
    start : (int, int, int)
        The first voxel of the block in the volume.
    factor : (int, int, int)
        Voxels per coarse voxel.

    Raises
    ------
    ValueError
        If the labels are not uint64, (Z, Y, X).
    """
    if labels.dtype != np.uint64 or labels.ndim != 3:
        raise ValueError(
            f"labels: expected uint64 (Z, Y, X); got {labels.dtype} of shape {labels.shape}"
        )
    columns = _block_runs(np.ascontiguousarray(labels), *zyx(start), *zyx(factor))
    return merged_runs(dict(zip(COLUMNS, columns, strict=True)))


def merged_runs(runs: Record) -> Record:
    """Runs in the order of segment, z, y, x; those that overlap or touch are one."""
    if not runs or not len(runs["segment"]):
        return {name: np.zeros(0, np.uint64 if name == "segment" else np.int64) for name in COLUMNS}
    low, size = box_of(runs)
    row = (runs["z"] - low[0]) * size[1] + runs["y"] - low[1]
    order = np.lexsort((row * size[2] + runs["x"] - low[2], runs["segment"]))
    ordered = {name: runs[name][order] for name in COLUMNS}
    row = row[order]
    new_row = np.ones(len(order), bool)
    new_row[1:] = (ordered["segment"][1:] != ordered["segment"][:-1]) | (row[1:] != row[:-1])
    # the farthest stop so far within the row: rows are moved apart, so that none reaches the next
    apart = (np.cumsum(new_row) - 1) * (size[2] + 1) - low[2]
    reached = np.maximum.accumulate(ordered["stop"] + apart)
    begins = new_row
    begins[1:] |= (ordered["x"] + apart)[1:] > reached[:-1]
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(order)) - 1
    merged = {name: ordered[name][first] for name in COLUMNS}
    merged["stop"] = reached[last] - apart[last]
    merged["voxels"] = np.add.reduceat(ordered["voxels"], first)
    return merged


def coarser_runs(runs: Record, step: Triple) -> Record:
    """The runs on a lattice that is coarser by whole numbers along z, y, x."""
    z, y, x = zyx(step)
    return merged_runs(
        {
            "segment": runs["segment"],
            "z": runs["z"] // z,
            "y": runs["y"] // y,
            "x": runs["x"] // x,
            "stop": -(-runs["stop"] // x),
            "voxels": runs["voxels"],
        }
    )


def segments_of(runs: Record) -> Iterator[tuple[int, Record]]:
    """The runs of each segment, ascending by id, of merged runs."""
    if not runs or not len(runs["segment"]):
        return
    segments, first = np.unique(runs["segment"], return_index=True)
    ends = np.append(first[1:], len(runs["segment"]))
    for segment, start, stop in zip(segments.tolist(), first, ends, strict=True):
        yield segment, {name: column[start:stop] for name, column in runs.items()}


def with_nuclei(runs: Record, nuclei: Record | None) -> Record:
    """Runs of cells and of the nuclei in them as one table, with a column `nucleus`: 0 or 1."""
    parts = [runs] if nuclei is None else [runs, nuclei]
    kinds = [np.full(len(part["segment"]), kind, np.uint8) for kind, part in enumerate(parts)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in COLUMNS}
    return {**columns, "nucleus": np.concatenate(kinds)}


def of_nuclei(rows: Record) -> tuple[Record, Record]:
    """The runs of cells, and those of the nuclei in them."""
    if not rows:
        return {}, {}
    runs = {name: rows[name] for name in COLUMNS}
    nucleus = rows["nucleus"] != 0
    return _chosen(runs, ~nucleus), _chosen(runs, nucleus)


def _chosen(runs: Record, which: np.ndarray) -> Record:
    return {name: column[which] for name, column in runs.items()}


def centre_of(runs: Record) -> np.ndarray:
    """The centre of some runs in coarse voxels, each run with the weight of its voxels."""
    middle = np.stack([runs["z"], runs["y"], (runs["x"] + runs["stop"] - 1) / 2], axis=1)
    return np.asarray(np.average(middle, axis=0, weights=runs["voxels"]))


def box_of(runs: Record) -> tuple[np.ndarray, np.ndarray]:
    """The first coarse voxel of the bounding box of some runs and its shape, int64 (3,) each."""
    start = np.array([runs[name].min() for name in "zyx"])
    stop = np.array([runs["z"].max() + 1, runs["y"].max() + 1, runs["stop"].max()])
    return start, stop - start


def mask_of(runs: Record) -> tuple[np.ndarray, np.ndarray]:
    """The coarse voxels of merged runs of one segment in their bounding box.

    Returns
    -------
    mask : uint8, (Z, Y, X)
        1 inside.
    start : int64, (3,)
        Coarse coordinates of the first voxel of the box.
    """
    start, shape = box_of(runs)
    row = (runs["z"] - start[0]) * shape[1] + runs["y"] - start[1]
    edges = np.zeros(int(np.prod(shape)) + 1, np.int8)
    edges[row * shape[2] + runs["x"] - start[2]] += 1  # starts are distinct, and so are stops
    edges[row * shape[2] + runs["stop"] - start[2]] -= 1
    mask: np.ndarray = np.cumsum(edges[:-1], dtype=np.int8).view(np.uint8).reshape(shape)
    return mask, start


def is_inside(runs: Record) -> Callable[[np.ndarray], np.ndarray]:
    """Whether coarse voxels, int64 (N, 3), are in merged runs of one segment."""
    start, (_, height, width) = box_of(runs)

    def place(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        row = (z - start[0]) * height + y - start[1]
        return np.asarray(row * (width + 1) + x - start[2])

    first = place(runs["z"], runs["y"], runs["x"])
    stop = place(runs["z"], runs["y"], runs["stop"])

    def inside(voxel: np.ndarray) -> np.ndarray:
        at = place(*voxel.T)
        run = np.searchsorted(first, at, "right") - 1
        return np.asarray((run >= 0) & (at < stop[run]))

    return inside


@kernel
def _block_runs(
    labels: np.ndarray, z0: int, y0: int, x0: int, fz: int, fy: int, fx: int
) -> tuple[np.ndarray, ...]:
    """Columns of the runs, row by row of coarse voxels; see `block_runs`."""
    depth, height, width = labels.shape
    room = 1024
    segment = np.empty(room, np.uint64)
    numbers = np.empty((room, 5), np.int64)
    count = 0
    most = fz * fy * fx
    label = np.empty(most, np.uint64)  # of the coarse voxel, with its number of voxels
    inside = np.empty(most, np.int64)
    open_run = np.empty(most, np.int64)  # runs that reach the coarse voxel before
    following = np.empty(most, np.int64)
    z = 0
    while z < depth:
        cz = (z0 + z) // fz
        z_stop = min(depth, (cz + 1) * fz - z0)
        y = 0
        while y < height:
            cy = (y0 + y) // fy
            y_stop = min(height, (cy + 1) * fy - y0)
            opened = 0
            x = 0
            while x < width:
                cx = (x0 + x) // fx
                x_stop = min(width, (cx + 1) * fx - x0)
                labels_here = 0
                for a in range(z, z_stop):
                    for b in range(y, y_stop):
                        last = -1
                        for c in range(x, x_stop):
                            value = labels[a, b, c]
                            if value == 0:
                                continue
                            if last >= 0 and label[last] == value:
                                inside[last] += 1
                                continue
                            last = 0
                            while last < labels_here and label[last] != value:
                                last += 1
                            if last == labels_here:
                                label[last] = value
                                inside[last] = 0
                                labels_here += 1
                            inside[last] += 1
                for number in range(labels_here):
                    run = -1
                    for other in range(opened):
                        if segment[open_run[other]] == label[number]:
                            run = open_run[other]
                            break
                    if run < 0:
                        if count == room:
                            room *= 2
                            more_segments = np.empty(room, np.uint64)
                            more_segments[:count] = segment
                            segment = more_segments
                            more_numbers = np.empty((room, 5), np.int64)
                            more_numbers[:count] = numbers
                            numbers = more_numbers
                        run = count
                        count += 1
                        segment[run] = label[number]
                        numbers[run, 0] = cz
                        numbers[run, 1] = cy
                        numbers[run, 2] = cx
                        numbers[run, 4] = 0
                    numbers[run, 3] = cx + 1
                    numbers[run, 4] += inside[number]
                    following[number] = run
                for number in range(labels_here):
                    open_run[number] = following[number]
                opened = labels_here
                x = x_stop
            y = y_stop
        z = z_stop
    columns = numbers[:count].copy()
    return (
        segment[:count].copy(),
        columns[:, 0].copy(),
        columns[:, 1].copy(),
        columns[:, 2].copy(),
        columns[:, 3].copy(),
        columns[:, 4].copy(),
    )
