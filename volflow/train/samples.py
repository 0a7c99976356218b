"""Crops of volumes with truth, drawn at random: the same crop for the same seed and number.

Truth here is int32: above 0 an object, 0 background, -1 a voxel about which nothing is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from volflow.core.geometry import Box, Triple, triple

UNKNOWN = -1
TRIES = 50  # crops looked at before the last one is taken whatever it holds


@dataclass(frozen=True)
class Source:
    """A volume with truth, in memory.

    Parameters
    ----------
    image : float32, (Z, Y, X)
        Normalised.
    truth : int32, (Z, Y, X)
    weight : float
        How often crops come from here, relative to other sources.
    """

    image: np.ndarray
    truth: np.ndarray
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.image.shape != self.truth.shape:
            raise ValueError(
                f"labels must cover the image; got labels of shape {self.truth.shape} for an "
                f"image of shape {self.image.shape}"
            )


@dataclass(frozen=True)
class Sample:
    """A crop: image float32 (Z, Y, X), truth int32 (Z, Y, X), or larger by the same at all sides.

    What of the truth lies around the image is looked at for what its objects are, and is not
    itself to be learnt.
    """

    image: np.ndarray
    truth: np.ndarray

    @property
    def around(self) -> Triple:
        """Voxels of truth at each side of the image."""
        sides = zip(self.truth.shape, self.image.shape, strict=True)
        return triple([(outer - inner) // 2 for outer, inner in sides])

    @property
    def known(self) -> np.ndarray:
        """The truth of the image's own voxels."""
        sides = zip(self.around, self.truth.shape, strict=True)
        return self.truth[tuple(slice(a, n - a) for a, n in sides)]


def as_truth(labels: np.ndarray, zero_is_background: bool) -> np.ndarray:
    """Labels of any integer dtype as truth, renumbered from 1.

    Parameters
    ----------
    labels : integers, (Z, Y, X)
    zero_is_background : bool
        Label 0 is background, which has affinity to nothing; otherwise it is unknown.

    Returns
    -------
    int32, (Z, Y, X)
    """
    names, truth = np.unique(labels, return_inverse=True)
    truth = truth.reshape(labels.shape).astype(np.int32)
    if len(names) and names[0] == 0:
        if not zero_is_background:
            truth[truth == 0] = UNKNOWN
        return truth
    return truth + np.int32(1)


def draw(
    sources: Sequence[Source],
    shape: Triple,
    rng: np.random.Generator,
    *,
    known: float = 0.5,
    rotation: float = 0.0,
    scaling: float = 0.0,
    around: Triple = (0, 0, 0),
) -> Sample:
    """A random crop in which at least the fraction `known` of voxels has a known truth.

    Parameters
    ----------
    sources : sequence of Source
        Each at least as large as `shape`.
    shape : Triple
        Of the crop, voxels.
    rng : Generator
    known : float
        After `TRIES` crops with less, the last one is taken.
    rotation : float
        Crops are turned about a random axis by up to this many degrees.
    scaling : float
        Crops are magnified by a factor between 1 / (1 + scaling) and 1 + scaling.
    around : Triple
        Voxels of truth that are wanted at each side of the crop; unknown beyond the source. They
        change nothing about which crop is drawn.

    Raises
    ------
    ValueError
        If a source is smaller than the crop.
    """
    weights = np.array([source.weight for source in sources], float)
    for _ in range(TRIES):
        source = sources[rng.choice(len(sources), p=weights / weights.sum())]
        room = [n - side for n, side in zip(source.image.shape, shape, strict=True)]
        if min(room) < 0:
            raise ValueError(f"a crop of {shape} does not fit in a volume of {source.image.shape}")
        start = triple([int(rng.integers(0, n + 1)) for n in room])
        box = Box(start, triple([a + side for a, side in zip(start, shape, strict=True)]))
        matrix = _transform(rng, rotation, scaling)
        sample = _cut(source, box, matrix)
        if np.mean(sample.truth != UNKNOWN) >= known:
            break
    if any(around):
        return Sample(sample.image, _truth(source, box.grow(around), matrix))
    return sample


def _transform(rng: np.random.Generator, rotation: float, scaling: float) -> np.ndarray | None:
    """A matrix from places in the crop to places in the volume; None if there is nothing to do."""
    axis, turn, size = rng.normal(size=3), rng.uniform(-1, 1), rng.uniform(-1, 1)
    if rotation == 0 and scaling == 0:
        return None
    z, y, x = axis / np.linalg.norm(axis)
    angle = np.deg2rad(rotation) * turn
    cross = np.array([[0, -x, y], [x, 0, -z], [-y, z, 0]])
    matrix = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    scaled: np.ndarray = matrix * (1 + scaling) ** size
    return scaled


def _cut(source: Source, box: Box, matrix: np.ndarray | None) -> Sample:
    if matrix is None:
        where = box.slices
        return Sample(source.image[where].copy(), source.truth[where].copy())
    near, offset = _source_of(source, box, matrix)
    image = ndimage.affine_transform(
        source.image[near], matrix, offset, box.shape, order=1, mode="reflect"
    )
    return Sample(image, _truth(source, box, matrix))


def _truth(source: Source, box: Box, matrix: np.ndarray | None) -> np.ndarray:
    """The truth over a box that may leave the source: unknown there."""
    if matrix is None:
        inside = box.clip(Box((0, 0, 0), triple(source.truth.shape)))
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
    """The part of a source that a turned box shows, and where in it the box's first voxel lies."""
    half = (np.array(box.shape) - 1) / 2
    centre = np.array(box.start) + half
    corners = np.array(np.meshgrid(*[(-h, h) for h in half], indexing="ij")).reshape(3, -1)
    reach = np.abs(matrix @ corners).max(axis=1)
    low = np.maximum(0, np.floor(centre - reach).astype(int) - 1)
    high = np.minimum(source.image.shape, np.ceil(centre + reach).astype(int) + 2)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return (z, y, x), centre - low - matrix @ half
