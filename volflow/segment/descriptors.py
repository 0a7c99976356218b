"""Local shape descriptors: of each voxel, how its object lies around it.

A Gaussian window around a voxel, restricted to the voxel's own object, has a mass, a centre and
a spread. They tell a network what the object looks like beyond what a voxel and its neighbour
can, and that is what makes them worth learning beside affinities.

All moments are taken about the voxel itself, not about an origin: nothing large is subtracted
from anything large, and a voxel's numbers do not depend on where the array starts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
from scipy import ndimage

from volflow.core.geometry import Triple, zyx

CHANNELS = 10
ODD = ("z", "y", "x", "", "", "", "zy", "zx", "yx", "")
"""Of each channel, the axes whose flip turns a value v into 1 - v."""
REACH = 3  # sigmas after which the Gaussian is cut off
LEAST_NM2 = 1e-3  # of a variance that correlations are divided by
CHUNK = 256  # places side by side whose sums stay near the processor
FEW = 1 << 16  # ids up to which labels are taken as they are, and not numbered anew

Nanometres = tuple[float, float, float]
Parts = tuple[slice, slice, slice]


def reach(sigma_nm: float, voxel_size_nm: Nanometres, step: int = 1) -> Triple:
    """Voxels around a box that its descriptors depend on: whole cells, z y x."""
    more = 1 if step > 1 else 0  # a box may end within a cell
    return zyx([(_radius(sigma_nm, size * step) + more) * step for size in voxel_size_nm])


def descriptors(
    labels: np.ndarray,
    sigma_nm: float,
    voxel_size_nm: Nanometres,
    around: Triple = (0, 0, 0),
    step: int = 1,
) -> np.ndarray:
    """Local shape descriptors of labels.

    With G a Gaussian of standard deviation `sigma_nm`, cut off at three of them and applied to
    what of the array is the voxel's own object: n = G(1), the centre is G(x) / n, the covariance
    G(x x) / n less the square of the centre.

    Parameters
    ----------
    labels : integers, (Z, Y, X)
        What is not above 0 is no object. Beyond the array there is none either.
    sigma_nm : float
    voxel_size_nm : three floats
        z, y, x.
    around : Triple
        Voxels at each side that count for the others and whose own descriptors are not wanted.
        With `reach` of them, at multiples of `step` from one another, blocks give the same bytes
        as one piece.
    step : int
        Windows are laid over cells of `step` voxels a side, that start at the array's start, and
        every voxel of an object in a cell shares the cell's window; 1: over voxels. (The authors
        take one voxel of each cell; here all of them weigh, so thin objects are not lost.)

    Returns
    -------
    float32, (10, Z - 2 around, Y - 2 around, X - 2 around), values in [0, 1]
        0-2 from the voxel to the centre in sigmas, 1/2 is none; 3-5 variances along z, y, x in
        squared sigmas; 6-8 correlations zy, zx, yx, 1/2 is none; 9 n. 0 where no object is.

    Raises
    ------
    ValueError
        If labels are not three-dimensional integers, or a size is not positive.

    References
    ----------
    Sheridan et al., Local shape descriptors for neuron segmentation, Nature Methods 2023. The
    order of channels is that of the authors' code.
    """
    if labels.ndim != 3 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels must be integers of shape (Z, Y, X); got {labels.dtype} of {labels.shape}"
        )
    if not (sigma_nm > 0 and min(voxel_size_nm) > 0 and step >= 1):
        raise ValueError(
            f"sigma, voxel size and step must be positive; got {sigma_nm}, {voxel_size_nm}, {step}"
        )
    sides = [n - 2 * a for n, a in zip(labels.shape, around, strict=True)]
    if min(around) < 0 or min(sides) < 0:
        raise ValueError(f"around must leave something of {labels.shape}; got {around}")
    out = np.zeros((CHANNELS, *sides), np.float32)
    if min(sides) == 0:
        return out
    dense = _dense(labels)
    kernels = [_kernels(sigma_nm, size * step) for size in voxel_size_nm]
    shift = [size / sigma_nm for size in voxel_size_nm]
    for label, (kept, near) in _boxes(dense, around, step, [k.shape[1] // 2 for k in kernels]):
        mass = _masses(dense, label, near[0], near[1], step)
        moments = _moments(mass, kernels, kept[0] - near[0], kept[1])
        found = _described(moments, LEAST_NM2 / sigma_nm**2)
        _write(out, dense, label, kept[0], found, np.array(around), step, np.array(shift))
    return out


def _radius(sigma_nm: float, size_nm: float) -> int:
    return int(REACH * sigma_nm / size_nm + 0.5)


def _kernels(sigma_nm: float, size_nm: float) -> np.ndarray:
    """A Gaussian g over u = distance in sigmas, and g u, g u²: float32 (3, taps)."""
    radius = _radius(sigma_nm, size_nm)
    u = np.arange(-radius, radius + 1) * (size_nm / sigma_nm)
    gauss = np.exp(-(u**2) / 2)
    gauss /= gauss.sum()
    return np.stack([gauss, gauss * u, gauss * u**2]).astype(np.float32)


def _dense(labels: np.ndarray) -> np.ndarray:
    """The same objects by small positive numbers, int32; 0 elsewhere."""
    if labels.max() <= FEW:
        return np.ascontiguousarray(np.maximum(labels, 0), np.int32)
    names, numbers = np.unique(labels, return_inverse=True)
    first = np.searchsorted(names, 0, side="right")  # of what is above 0
    dense: np.ndarray = np.maximum(numbers.reshape(labels.shape) - first + 1, 0).astype(np.int32)
    return dense


def _boxes(
    dense: np.ndarray, around: Triple, step: int, radii: list[int]
) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray]]]:
    """Objects that are expected, each with the cells of it that are, and those that count for them.

    Boxes of cells are arrays [start, shape].
    """
    z, y, x = (slice(a, n - a) for a, n in zip(around, dense.shape, strict=True))
    everywhere = ndimage.find_objects(dense)
    for number, inside in enumerate(ndimage.find_objects(dense[z, y, x])):
        if inside is not None:
            kept = _cells(inside, around, step)
            start, stop = kept[0] - radii, kept[0] + kept[1] + radii
            whole = _cells(everywhere[number], (0, 0, 0), step)
            start = np.maximum(start, whole[0])
            stop = np.minimum(stop, whole[0] + whole[1])
            yield number + 1, (kept, np.stack([start, stop - start]))


def _cells(box: Parts, shift: Triple, step: int) -> np.ndarray:
    """The cells that a box of voxels touches, [start, shape]."""
    start = np.array([(part.start + by) // step for part, by in zip(box, shift, strict=True)])
    stop = np.array([-(-(part.stop + by) // step) for part, by in zip(box, shift, strict=True)])
    return np.stack([start, stop - start])


def _moments(
    mass: np.ndarray, kernels: list[np.ndarray], first: np.ndarray, shape: np.ndarray
) -> np.ndarray:
    """Moments of a mass about each cell of a box that starts `first` cells into it.

    Returns
    -------
    float32, (10, *shape)
        1; z, y, x; zz, yy, xx; zy, zx, yx.
    """
    along_x = _along(mass, kernels[2], 2, first[2], shape[2])
    made: dict[tuple[int, int, int], np.ndarray] = {}
    for x in range(3):
        along_y = _along(along_x[x], kernels[1][: 3 - x], 1, first[1], shape[1])
        for y in range(3 - x):
            along_z = _along(along_y[y], kernels[0][: 3 - x - y], 0, first[0], shape[0])
            made |= {(z, y, x): along_z[z] for z in range(3 - x - y)}
    order = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 0), (0, 2, 0), (0, 0, 2)]
    return np.stack([made[powers] for powers in [*order, (1, 1, 0), (1, 0, 1), (0, 1, 1)]])


def _along(array: np.ndarray, kernels: np.ndarray, axis: int, first: int, count: int) -> np.ndarray:
    """An array correlated along one axis with several kernels, (K, *), for `count` places there."""
    radius = kernels.shape[1] // 2
    lines = np.moveaxis(array, axis, 0)
    # Zeros beyond the array, which add nothing: so sums are the same wherever it starts.
    padded = np.zeros((count + 2 * radius, *lines.shape[1:]), np.float32)
    low, high = max(0, radius - first), min(len(padded), len(lines) + radius - first)
    padded[low:high] = lines[low + first - radius : high + first - radius]
    out = np.empty((len(kernels), count, padded[0].size), np.float32)
    _correlate(padded.reshape(len(padded), -1), kernels[:, radius:], out)
    return np.moveaxis(out.reshape(len(kernels), count, *lines.shape[1:]), 1, axis + 1)


@numba.njit(cache=True, nogil=True)
def _correlate(lines, halves, out):  # type: ignore[no-untyped-def]  # compiled
    # The first and third kernel are even, the second is odd: taps are taken in pairs.
    kernels, count, width = out.shape
    radius = halves.shape[1] - 1
    for left in range(0, width, CHUNK):
        right = min(width, left + CHUNK)
        for place in range(count):
            middle = lines[place + radius, left:right]
            for k in range(kernels):
                weight, sums = halves[k, 0], out[k, place, left:right]
                for at in range(len(sums)):
                    sums[at] = weight * middle[at]
            for tap in range(1, radius + 1):
                after = lines[place + radius + tap, left:right]
                before = lines[place + radius - tap, left:right]
                for k in range(kernels):
                    weight, sums = halves[k, tap], out[k, place, left:right]
                    if k == 1:
                        for at in range(len(sums)):
                            sums[at] += weight * (after[at] - before[at])
                    else:
                        for at in range(len(sums)):
                            sums[at] += weight * (after[at] + before[at])


@numba.njit(cache=True, nogil=True)
def _masses(dense, label, start, shape, step):  # type: ignore[no-untyped-def]  # compiled
    """How full of an object each cell is, float32."""
    mass = np.zeros((shape[0], shape[1], shape[2]), np.float32)
    each = np.float32(1 / step**3)
    stop = (start + shape) * step
    for z in range(start[0] * step, min(stop[0], dense.shape[0])):
        for y in range(start[1] * step, min(stop[1], dense.shape[1])):
            row = mass[z // step - start[0], y // step - start[1]]
            for x in range(start[2] * step, min(stop[2], dense.shape[2])):
                if dense[z, y, x] == label:
                    row[x // step - start[2]] += each
    return mass


def _described(moments: np.ndarray, least: float) -> np.ndarray:
    """Descriptors from moments in sigmas, in their order but as they are: -1 to 1 about 0."""
    n = moments[0]
    there = np.where(n > 0, n, 1)
    centre = moments[1:4] / there
    variance = np.maximum(moments[4:7] / there - centre**2, np.float32(least))
    z, y, x = centre
    covariance = moments[7:] / there - np.stack([z * y, z * x, y * x])
    zz, yy, xx = np.sqrt(variance)
    correlation = covariance / np.stack([zz * yy, zz * xx, yy * xx])
    return np.concatenate([centre, variance, correlation, n[None]])


@numba.njit(cache=True, nogil=True)
def _write(  # type: ignore[no-untyped-def]  # compiled
    out, dense, label, start, found, around, step, shift
):
    """What was found of a cell, for each of the object's voxels in it."""
    shape = np.array(found.shape[1:])
    low = np.maximum(start * step, around)
    high = np.minimum((start + shape) * step, around + np.array(out.shape[1:]))
    half = np.float32((step - 1) / 2)
    for z in range(low[0], high[0]):
        for y in range(low[1], high[1]):
            for x in range(low[2], high[2]):
                if dense[z, y, x] != label:
                    continue
                cell = found[:, z // step - start[0], y // step - start[1], x // step - start[2]]
                place = out[:, z - around[0], y - around[1], x - around[2]]
                for c in range(10):
                    value = cell[c]
                    if c < 3:
                        # As seen from the voxel, not from the cell's middle; the window comes
                        # along, and of a Gaussian one the centre follows by the variance.
                        inside = ((z, y, x)[c] % step - half) * shift[c]
                        value = np.float32(value - inside * (1 - cell[c + 3]))
                    if c < 3 or 6 <= c < 9:
                        value = value * np.float32(0.5) + np.float32(0.5)
                    place[c] = min(max(value, np.float32(0)), np.float32(1))
