"""Defects of sections: drift, varying brightness, missing and repeated sections."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from volflow.kernels import kernel
from volflow.synth.noise import normal, salted, uniform

SALT = 110


class Sections(NamedTuple):
    """The sections of a volume, one row each.

    Attributes
    ----------
    z : int64 array, (N,)
    shift : int64 array, (N, 2)
        The image at (y, x) shows the truth at (y, x) + shift; clamped to the bounds.
    offset : float64 array, (N,)
        Grey values by which a section is brighter.
    missing : bool array, (N,)
        Whether a section is black.
    repeated : bool array, (N,)
        Whether a section shows the one before it.
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


def draw_sections(
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
        Standard deviation of the brightness of sections in grey values.
    drift : int
        Largest shift along y and x in voxels; consecutive sections differ by at most one voxel.
    missing, repeated : float
        Fractions of the sections. A section is repeated only if it is neither missing nor repeated
        itself.
    """
    z = np.arange(start, stop)
    columns = _draw(salted(seed, SALT), start, len(z), section_noise, drift, missing, repeated)
    return Sections(z, *columns)


@kernel
def _draw(
    seed: np.uint64,
    start: int,
    count: int,
    section_noise: float,
    drift: int,
    missing: float,
    repeated: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Shift, offset, missing, repeated; the random walk of shifts starts at 0."""
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
        chance = uniform(seed + np.uint64(3), z, 0, 0)
        lost[row] = chance < missing
        intact = row > 0 and not lost[row - 1] and not again[row - 1]
        again[row] = intact and missing <= chance < missing + repeated
    return shift, offset, lost, again


def damaged(image: np.ndarray, first: int, window: np.ndarray, rows: Sections) -> np.ndarray:
    """An image with the shifts and defects of its sections applied, uint8.

    Parameters
    ----------
    image : uint8 array, (z, y, x)
        The image without defects.
    first : int
        Absolute coordinate of its first section.
    window : int64 array, (2, 2)
        First and last (exclusive) y, then x, of the result in voxels of `image`, which has to
        contain everything that shifts need within the bounds; beyond them, edge voxels repeat.
    rows : Sections
        The sections of the result; `image` contains the predecessors of repeated sections.
    """
    y, x = (np.arange(*window[axis]) for axis in range(2))
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
