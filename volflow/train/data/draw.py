"""Random crops of volumes with truth: the same crop for the same random generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy import ndimage

from volflow.core.geometry import Box, Triple, zyx
from volflow.train.data.samples import UNKNOWN, UNKNOWN_MARK, Sample, Source

TRIES = 50  # crops drawn before one is accepted however little of it is known


def draw_sample(
    sources: Sequence[Source],
    shape: Triple,
    rng: np.random.Generator,
    *,
    known: float = 0.5,
    rotation: float = 0.0,
    scaling: float = 0.0,
    planar: bool = False,
    margin: Triple = (0, 0, 0),
) -> Sample:
    """A random crop in which at least the fraction `known` of voxels have truth or marks.

    The source is drawn first, by its weight, however little of it is known.

    Parameters
    ----------
    sources : sequence of Source
        Each at least as large as `shape`.
    shape : Triple
        Shape of the crop, voxels.
    rng : Generator
    known : float
        Minimum fraction; the last of `TRIES` crops is accepted with any.
    rotation : float
        Maximum rotation about a random axis, degrees.
    scaling : float
        Crops are magnified by a factor from 1 / (1 + scaling) to 1 + scaling.
    planar : bool
        Whether crops are rotated and magnified within sections only.
    margin : Triple
        Voxels of truth on each side of the crop, unknown outside the source. The margin does not
        change which crop is drawn.

    Raises
    ------
    ValueError
        If a source is smaller than the crop.
    """
    weights = np.array([source.weight for source in sources], float)
    number = -1
    for _ in range(TRIES):
        drawn = int(rng.choice(len(sources), p=weights / weights.sum()))
        number = drawn if number < 0 else number
        source, section_step = _every_nth_section(sources[number], shape[0], rng)
        if any(n < side for n, side in zip(source.image.shape, shape, strict=True)):
            raise ValueError(
                f"the crop is larger than the volume; expected at most {source.image.shape}, got "
                f"{shape}"
            )
        start = _start(source, shape, rng)
        box = Box(start, zyx(start) + shape)
        matrix = _transform(
            rng, rotation, scaling, planar=planar or source.flat or section_step > 1
        )
        sample = replace(
            _cut(source, box, matrix),
            flat=source.flat,
            section_step=section_step,
            number=number,
        )
        informative = (sample.truth != UNKNOWN) | (sample.marks != UNKNOWN_MARK).any(axis=0)
        if np.mean(informative) >= known:
            break
    if any(margin):
        return replace(sample, truth=_truth(source, box.grow(margin), matrix))
    return sample


def _every_nth_section(source: Source, depth: int, rng: np.random.Generator) -> tuple[Source, int]:
    """Every n-th section of a source, and n, limited so that a crop still fits."""
    low, high = source.sections
    if high == 1:
        return source, 1
    n = int(rng.integers(low, high + 1))
    n = max(1, min(n, (len(source.image) - 1) // max(1, depth - 1)))
    room = len(source.image) - (depth - 1) * n
    first = int(rng.integers(0, min(n, room)))
    sections = slice(first, None, n)
    thinned = replace(
        source,
        image=source.image[sections],
        truth=source.truth[sections],
        marks=source.marks[:, sections],
        places=source.places[source.places[:, 0] % n == first] // (n, 1, 1),
    )
    return thinned, n


def _start(source: Source, shape: Triple, rng: np.random.Generator) -> Triple:
    """The first voxel of a crop: anywhere, or such that the crop contains one of the places."""
    room = [n - side for n, side in zip(source.image.shape, shape, strict=True)]
    if source.rare and len(source.places) and rng.random() < source.rare:
        place = source.places[rng.integers(len(source.places))]
        first = [int(at - rng.integers(0, side)) for at, side in zip(place, shape, strict=True)]
        return zyx([min(max(0, a), n) for a, n in zip(first, room, strict=True)])
    return zyx([int(rng.integers(0, n + 1)) for n in room])


def _transform(
    rng: np.random.Generator, rotation: float, scaling: float, planar: bool = False
) -> np.ndarray | None:
    """A matrix from positions in the crop to positions in the volume; None: the identity."""
    axis, turn, size = rng.normal(size=3), rng.uniform(-1, 1), rng.uniform(-1, 1)
    if rotation == 0 and scaling == 0:
        return None
    z, y, x = (1, 0, 0) if planar else axis / np.linalg.norm(axis)
    angle = np.deg2rad(rotation) * turn
    cross = np.array([[0, -x, y], [x, 0, -z], [-y, z, 0]])
    matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    scaled: np.ndarray = matrix * (1 + scaling) ** size
    if planar:
        scaled[0] = (1, 0, 0)
    return scaled


def _cut(source: Source, box: Box, matrix: np.ndarray | None) -> Sample:
    if matrix is None:
        z, y, x = box.slices
        image, truth = source.image[z, y, x].copy(), source.truth[z, y, x].copy()
        return Sample(image, truth, source.marks[:, z, y, x].copy())
    near, offset = _source_of(source, box, matrix)
    image = ndimage.affine_transform(
        source.image[near], matrix, offset, box.shape, order=1, mode="reflect"
    )
    marks = np.empty((len(source.marks), *box.shape), np.uint8)
    for mark, turned in zip(source.marks, marks, strict=True):
        ndimage.affine_transform(
            mark[near], matrix, offset, output=turned, order=0, mode="constant", cval=UNKNOWN_MARK
        )
    return Sample(image, _truth(source, box, matrix), marks)


def _truth(source: Source, box: Box, matrix: np.ndarray | None) -> np.ndarray:
    """The truth in a box, unknown outside the source."""
    if matrix is None:
        inside = box.clip(Box((0, 0, 0), zyx(source.truth.shape)))
        truth = np.full(box.shape, UNKNOWN, np.int32)
        truth[inside.within(box)] = source.truth[inside.slices]
        return truth
    near, offset = _source_of(source, box, matrix)
    turned: np.ndarray = ndimage.affine_transform(
        source.truth[near], matrix, offset, box.shape, order=0, mode="constant", cval=UNKNOWN
    )
    return turned


def _source_of(
    source: Source, box: Box, matrix: np.ndarray
) -> tuple[tuple[slice, slice, slice], np.ndarray]:
    """The part of a source covered by a rotated box, and the position of its first voxel there."""
    half = (np.array(box.shape) - 1) / 2
    centre = np.array(box.start) + half
    corners = np.array(np.meshgrid(*[(-h, h) for h in half], indexing="ij")).reshape(3, -1)
    reach = np.abs(matrix @ corners).max(axis=1)
    low = np.maximum(0, np.floor(centre - reach).astype(int) - 1)
    high = np.minimum(source.image.shape, np.ceil(centre + reach).astype(int) + 2)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return (z, y, x), centre - low - matrix @ half
