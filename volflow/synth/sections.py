"""What happens to sections: they drift, their brightness changes, some are lost."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from volflow.synth.noise import normal, salted, uniform

SALT = 110


class Sections(NamedTuple):
    """The sections of a volume, each row one of them.

    Attributes
    ----------
    z : int64 array, (N,)
    shift : int64 array, (N, 2)
        The image at (y, x) shows the truth at (y, x) + shift; clamped to the bounds.
    offset : float64 array, (N,)
        Grey values that a section is brighter.
    missing : bool array, (N,)
        Sections that are black.
    repeated : bool array, (N,)
        Sections that show the one before them.
    """

    z: np.ndarray
    shift: np.ndarray
    offset: np.ndarray
    missing: np.ndarray
    repeated: np.ndarray

    def rows(self, start: int, stop: int) -> Sections:
        """The sections from `start` to `stop`."""
        first = start - int(self.z[0])
        return Sections(*(column[first : first + stop - start] for column in self))


def sections_of(
    seed: np.uint64,
    start: int,
    stop: int,
    *,
    section_noise: float,
    drift: int,
    missing: float,
    repeated: float,
) -> Sections:
    """All sections of bounds from `start` to `stop`.

    Parameters
    ----------
    section_noise : float
        Standard deviation of a section's brightness, grey values.
    drift : int
        The greatest shift along y and x, voxels; neighbours differ by one at most.
    missing, repeated : float
        Shares of sections. One is repeated only after one that is itself.
    """
    z = np.arange(start, stop)
    columns = _drawn(salted(seed, SALT), start, len(z), section_noise, drift, missing, repeated)
    return Sections(z, *columns)


@numba.njit(cache=True, nogil=True)
def _drawn(
    seed: np.uint64,
    start: int,
    count: int,
    section_noise: float,
    drift: int,
    missing: float,
    repeated: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shift, offset, missing, repeated; the walk starts at 0 where the bounds do."""
    shift = np.zeros((count, 2), np.int64)
    offset = np.zeros(count)
    lost, again = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    here = np.zeros(2, np.int64)
    for row in range(count):
        z = start + row
        for axis in range(2):
            step = int(3.0 * uniform(seed + np.uint64(axis), z, 0, 0)) - 1
            if row and abs(here[axis] + step) <= drift:
                here[axis] += step
            shift[row, axis] = here[axis]
        offset[row] = section_noise * normal(seed + np.uint64(2), z, 0, 0)
        luck = uniform(seed + np.uint64(3), z, 0, 0)
        lost[row] = luck < missing
        sound = row > 0 and not lost[row - 1] and not again[row - 1]
        again[row] = sound and missing <= luck < missing + repeated
    return shift, offset, lost, again


def damaged(image: np.ndarray, first: int, here: np.ndarray, rows: Sections) -> np.ndarray:
    """An image as the microscope's operator got it, uint8, of the sections in `rows`.

    Parameters
    ----------
    image : uint8 array, (z, y, x)
        Without damage, its first section being `first`.
    here : int64 array, (2, 2)
        First and last (exclusive) y, then x, in voxels of `image`; what a shift needs lies
        in the array, or beyond the bounds, where its outermost voxels are repeated.
    rows : Sections
        A repeated section's predecessor is in `image`.
    """
    y, x = (np.arange(*here[axis]) for axis in range(2))
    out = np.empty((len(rows.z), len(y), len(x)), np.uint8)
    before = rows.repeated.astype(np.int64)
    for row, z in enumerate(rows.z):
        if rows.missing[row]:
            out[row] = 0
            continue
        moved = rows.shift[row]
        v = np.clip(y + moved[0], 0, image.shape[1] - 1)
        w = np.clip(x + moved[1], 0, image.shape[2] - 1)
        shown = image[z - first - before[row]][np.ix_(v, w)]
        out[row] = np.clip(np.rint(shown + rows.offset[row]), 0, 255).astype(np.uint8)
    return out
