"""Local shape descriptors: the shape of a voxel's object in a window around the voxel.

A Gaussian window around a voxel, restricted to the voxel's own object, has a mass, a centre and
a spread. They describe the object on a larger scale than affinities, which compare a voxel with
its neighbour only; networks therefore learn them as an auxiliary task.

All moments are taken about the voxel itself, not about an origin: no large numbers are
subtracted from each other, and a voxel's values do not depend on where the array starts.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from volflow.core.geometry import Triple, zyx
from volflow.kernels import kernel

CHANNELS = 10
ODD = ("z", "y", "x", "", "", "", "zy", "zx", "yx", "")
"""For each channel, the axes whose flip turns a value v into 1 - v."""
REACH = 3  # the Gaussian is truncated at this many sigmas
LEAST_NM2 = 1e-3  # lower bound of a variance before correlations are divided by it
CHUNK = 256  # columns processed together, so that their sums stay in the cache
FEW = 1 << 16  # labels up to this value are used directly instead of being renumbered

Nanometres = tuple[float, float, float]
Parts = tuple[slice, slice, slice]


def reach(sigma_nm: float, voxel_size_nm: Nanometres, step: int = 1) -> Triple:
    """Halo, in voxels z y x, that the descriptors of a box depend on; a multiple of `step`."""
    more = 1 if step > 1 else 0  # a box may end in the middle of a cell
    return zyx([(_radius(sigma_nm, size * step) + more) * step for size in voxel_size_nm])


def descriptors(
    labels: np.ndarray,
    sigma_nm: float,
    voxel_size_nm: Nanometres,
    halo: Triple = (0, 0, 0),
    step: int = 1,
) -> np.ndarray:
    """Local shape descriptors of labels.

    Let G be a Gaussian of standard deviation `sigma_nm`, truncated at three sigmas and restricted
    to the voxel's own object. Then n = G(1), the centre is G(x) / n, and the covariance is
    G(x x) / n minus the square of the centre.

    Parameters
    ----------
    labels : integers, (Z, Y, X)
        Values of 0 or below are background, and so is everything beyond the array.
    sigma_nm : float
        Standard deviation of the window in nanometres.
    voxel_size_nm : three floats
        z, y, x.
    halo : Triple
        Voxels at each side that contribute to the others and are not part of the output. With
        a halo of `reach` and blocks that start at multiples of `step`, the result block by block
        has the same bytes as the result in one piece.
    step : int
        Windows are centred on cells of `step` voxels a side, counted from the array's start; all
        voxels of an object in a cell share the cell's window. 1: one window per voxel. (The
        authors' code samples one voxel of each cell; here all voxels of the cell contribute, so
        thin objects are not lost.)

    Returns
    -------
    float32, (10, Z - 2 halo, Y - 2 halo, X - 2 halo), values in [0, 1]
        0-2: offset from the voxel to the centre in sigmas, 1/2 is zero; 3-5: variances along z,
        y, x in squared sigmas; 6-8: correlations zy, zx, yx, 1/2 is zero; 9: n. 0 in background.

    Raises
    ------
    ValueError
        If labels are not three-dimensional integers, a size is not positive, or the halo leaves
        nothing of the array.

    References
    ----------
    Sheridan et al., Local shape descriptors for neuron segmentation, Nature Methods 2023. The
    channels are in the order of the authors' code.
    """
    if labels.ndim != 3 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"expected integer labels of shape (Z, Y, X); got {labels.dtype} of {labels.shape}"
        )
    if not (sigma_nm > 0 and min(voxel_size_nm) > 0 and step >= 1):
        raise ValueError(
            f"expected positive sigma, voxel size and step; got {sigma_nm}, {voxel_size_nm}, {step}"
        )
    sides = [n - 2 * a for n, a in zip(labels.shape, halo, strict=True)]
    if min(halo) < 0 or min(sides) < 0:
        raise ValueError(f"expected a halo that fits twice into {labels.shape}; got {halo}")
    out = np.zeros((CHANNELS, *sides), np.float32)
    if min(sides) == 0:
        return out
    numbered = _numbered(labels)
    kernels = [_kernels(sigma_nm, size * step) for size in voxel_size_nm]
    shift = [size / sigma_nm for size in voxel_size_nm]
    for label, (cells, window) in _boxes(numbered, halo, step, [k.shape[1] // 2 for k in kernels]):
        mass = _masses(numbered, label, window[0], window[1], step)
        moments = _moments(mass, kernels, cells[0] - window[0], cells[1])
        values = _normalised(moments, LEAST_NM2 / sigma_nm**2)
        _write(out, numbered, label, cells[0], values, np.array(halo), step, np.array(shift))
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


def _numbered(labels: np.ndarray) -> np.ndarray:
    """The labels renumbered to small positive integers, int32; 0 is background."""
    if labels.max() <= FEW:
        return np.ascontiguousarray(np.maximum(labels, 0), np.int32)
    names, numbers = np.unique(labels, return_inverse=True)
    first = np.searchsorted(names, 0, side="right")  # the first label above 0
    dense: np.ndarray = np.maximum(numbers.reshape(labels.shape) - first + 1, 0).astype(np.int32)
    return dense


def _boxes(
    numbered: np.ndarray, halo: Triple, step: int, radii: list[int]
) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray]]]:
    """Objects in the output, each with its cells in the output and the cells that they depend on.

    Boxes of cells are arrays [start, shape].
    """
    z, y, x = (slice(a, n - a) for a, n in zip(halo, numbered.shape, strict=True))
    everywhere = ndimage.find_objects(numbered)
    for number, own in enumerate(ndimage.find_objects(numbered[z, y, x])):
        if own is not None:
            cells = _cells(own, halo, step)
            start, stop = cells[0] - radii, cells[0] + cells[1] + radii
            extent = _cells(everywhere[number], (0, 0, 0), step)
            start = np.maximum(start, extent[0])
            stop = np.minimum(stop, extent[0] + extent[1])
            yield number + 1, (cells, np.stack([start, stop - start]))


def _cells(box: Parts, shift: Triple, step: int) -> np.ndarray:
    """The cells that a box of voxels touches, [start, shape]."""
    start = np.array([(part.start + by) // step for part, by in zip(box, shift, strict=True)])
    stop = np.array([-(-(part.stop + by) // step) for part, by in zip(box, shift, strict=True)])
    return np.stack([start, stop - start])


def _moments(
    mass: np.ndarray, kernels: list[np.ndarray], first: np.ndarray, shape: np.ndarray
) -> np.ndarray:
    """Moments of a mass about each cell of a box that starts at cell `first` of the mass.

    Returns
    -------
    float32, (10, *shape)
        Moments of 1; z, y, x; zz, yy, xx; zy, zx, yx.
    """
    along_x = _along(mass, kernels[2], 2, first[2], shape[2])
    moment: dict[tuple[int, int, int], np.ndarray] = {}
    for x in range(3):
        along_y = _along(along_x[x], kernels[1][: 3 - x], 1, first[1], shape[1])
        for y in range(3 - x):
            along_z = _along(along_y[y], kernels[0][: 3 - x - y], 0, first[0], shape[0])
            moment |= {(z, y, x): along_z[z] for z in range(3 - x - y)}
    order = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 0), (0, 2, 0), (0, 0, 2)]
    return np.stack([moment[powers] for powers in [*order, (1, 1, 0), (1, 0, 1), (0, 1, 1)]])


def _along(array: np.ndarray, kernels: np.ndarray, axis: int, first: int, count: int) -> np.ndarray:
    """Correlations of an array along one axis with K kernels, (K, ...), at `count` positions."""
    radius = kernels.shape[1] // 2
    lines = np.moveaxis(array, axis, 0)
    # Zeros beyond the array contribute nothing, so sums are the same wherever the array starts.
    padded = np.zeros((count + 2 * radius, *lines.shape[1:]), np.float32)
    low, high = max(0, radius - first), min(len(padded), len(lines) + radius - first)
    padded[low:high] = lines[low + first - radius : high + first - radius]
    out = np.empty((len(kernels), count, padded[0].size), np.float32)
    _correlate(padded.reshape(len(padded), -1), kernels[:, radius:], out)
    return np.moveaxis(out.reshape(len(kernels), count, *lines.shape[1:]), 1, axis + 1)


@kernel
def _correlate(lines: np.ndarray, halves: np.ndarray, out: np.ndarray) -> None:
    # The first and third kernel are even, the second is odd: taps are combined in pairs.
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


@kernel
def _masses(
    numbered: np.ndarray, label: int, start: np.ndarray, shape: np.ndarray, step: int
) -> np.ndarray:
    """Fraction of each cell that an object fills, float32."""
    mass = np.zeros((shape[0], shape[1], shape[2]), np.float32)
    each = np.float32(1 / step**3)
    stop = (start + shape) * step
    for z in range(start[0] * step, min(stop[0], numbered.shape[0])):
        for y in range(start[1] * step, min(stop[1], numbered.shape[1])):
            row = mass[z // step - start[0], y // step - start[1]]
            for x in range(start[2] * step, min(stop[2], numbered.shape[2])):
                if numbered[z, y, x] == label:
                    row[x // step - start[2]] += each
    return mass


def _normalised(moments: np.ndarray, least: float) -> np.ndarray:
    """Descriptors from moments in sigmas, before offsets and correlations are mapped to [0, 1]."""
    n = moments[0]
    mass = np.where(n > 0, n, 1)
    centre = moments[1:4] / mass
    variance = np.maximum(moments[4:7] / mass - centre**2, np.float32(least))
    z, y, x = centre
    covariance = moments[7:] / mass - np.stack([z * y, z * x, y * x])
    zz, yy, xx = np.sqrt(variance)
    correlation = covariance / np.stack([zz * yy, zz * xx, yy * xx])
    return np.concatenate([centre, variance, correlation, n[None]])


@kernel
def _write(
    out: np.ndarray,
    numbered: np.ndarray,
    label: int,
    start: np.ndarray,
    values: np.ndarray,
    halo: np.ndarray,
    step: int,
    shift: np.ndarray,
) -> None:
    """Write the descriptors of an object's cells to each of its voxels in them."""
    shape = np.array(values.shape[1:])
    low = np.maximum(start * step, halo)
    high = np.minimum((start + shape) * step, halo + np.array(out.shape[1:]))
    half = np.float32((step - 1) / 2)
    for z in range(low[0], high[0]):
        for y in range(low[1], high[1]):
            for x in range(low[2], high[2]):
                if numbered[z, y, x] != label:
                    continue
                cell = values[:, z // step - start[0], y // step - start[1], x // step - start[2]]
                place = out[:, z - halo[0], y - halo[1], x - halo[2]]
                for c in range(10):
                    value = cell[c]
                    if c < 3:
                        # The offset from the voxel instead of from the cell's centre. Shifting a
                        # Gaussian window shifts the centre of mass by the variance.
                        inside = ((z, y, x)[c] % step - half) * shift[c]
                        value = np.float32(value - inside * (1 - cell[c + 3]))
                    if c < 3 or 6 <= c < 9:
                        value = value * np.float32(0.5) + np.float32(0.5)
                    place[c] = min(max(value, np.float32(0)), np.float32(1))
