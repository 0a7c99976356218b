"""Votes of tracks mixed into affinities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from volflow.core.geometry import Box, Triple


def voted(
    affinity: np.ndarray,
    runs: Sequence[np.ndarray],
    box: Box,
    bounds: Box,
    seams: Triple,
    weight: float,
) -> np.ndarray:
    """Affinities mixed with the votes of tracks: `(a + 255 w same) / (1 + w (same + different))`.

    Each run votes on a pair of voxels that both belong to tracks: *same* if it is one track, else
    *different*. Across a seam, where tracks that continue each other may have different labels,
    only *same* counts.

    Parameters
    ----------
    affinity : uint8, (3, Z, Y, X)
        `affinity[c, z, y, x]` joins a voxel with the one before it along axis c.
    runs : sequence of integers, (Z, Y, X)
        Tracks, one array per run; 0 is background.
    box : Box
        The box that the arrays cover.
    bounds : Box
        Of the volume; the first voxels along an axis have no pair along it.
    seams : (int, int, int)
        Sides z y x, from the start of the bounds on, of the boxes that were followed independently.
    weight : float
        w, at least 0; with 0 the affinities stay as they are.

    Returns
    -------
    uint8, (3, Z, Y, X)
        Along axis c the first voxels of `box` have no votes, as their pairs are not known.
    """
    table = mixing_table(len(runs), weight)
    result = affinity.copy()
    for axis, pairs in enumerate(_pairs(box, bounds)):
        channel = affinity[axis][pairs]
        inner = ~_across_seam(box, bounds, seams[axis], axis)[pairs[axis]]
        within = inner.reshape([-1 if a == axis else 1 for a in range(3)])
        same, different = (np.zeros(channel.shape, np.uint8) for _ in range(2))
        for labels in runs:
            here, before = labels[pairs], labels[_before(pairs, axis)]
            equal = here == before
            same += equal & (here != 0)
            different += ~equal & (here != 0) & (before != 0) & within
        result[axis][pairs] = table[same, different, channel]
    return result


def mixing_table(runs: int, weight: float) -> np.ndarray:
    """The mixed affinity by votes *same*, votes *different* and affinity, uint8 (R+1, R+1, 256)."""
    same, different, affinity = np.ogrid[: runs + 1, : runs + 1, :256]
    mixed = (affinity + 255 * weight * same) / (1 + weight * (same + different))
    table: np.ndarray = np.rint(mixed).astype(np.uint8)
    return table


def eroded(labels: np.ndarray, pixels: int) -> np.ndarray:
    """Labels without the pixels of each section that are near other labels or background.

    Parameters
    ----------
    labels : integers, (Z, Y, X)
        What is outside the array does not count.
    pixels : int
        Steps along y and x from one pixel to its neighbour: a pixel is left out if one of another
        label is as near as this.
    """
    for _ in range(pixels):
        border = np.zeros(labels.shape, bool)
        for axis in (1, 2):
            along, at = np.moveaxis(labels, axis, 0), np.moveaxis(border, axis, 0)
            change = along[1:] != along[:-1]
            at[1:] |= change
            at[:-1] |= change
        labels = np.where(border, labels.dtype.type(0), labels)
    return labels


def _pairs(box: Box, bounds: Box) -> Iterator[tuple[slice, slice, slice]]:
    """For each axis, the voxels of a box, clipped to the bounds, that have the one before them."""
    known = box.clip(bounds)
    for axis in range(3):
        inside = list(known.within(box))
        first = inside[axis]
        inside[axis] = slice(min(first.start + 1, first.stop), first.stop)
        yield (inside[0], inside[1], inside[2])


def _before(pairs: tuple[slice, slice, slice], axis: int) -> tuple[slice, slice, slice]:
    places = list(pairs)
    start, stop = places[axis].start, places[axis].stop
    places[axis] = slice(start - 1, max(stop - 1, start - 1))
    return (places[0], places[1], places[2])


def _across_seam(box: Box, bounds: Box, side: int, axis: int) -> np.ndarray:
    """For each place of a box along an axis, whether a seam is before it; bool, (N,)."""
    at = np.arange(box.start[axis], box.stop[axis]) - bounds.start[axis]
    seam: np.ndarray = at % side == 0
    return seam
