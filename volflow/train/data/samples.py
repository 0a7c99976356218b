"""Crops of volumes with truth, drawn at random: the same crop for the same seed and number.

Truth here is int32: above 0 an object, 0 background, -1 a voxel about which nothing is known.
Marks are what else is known of a voxel, uint8: 1 yes, 0 no, 255 unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

from volflow.core.geometry import Box, Triple, zyx

UNKNOWN = -1
UNKNOWN_MARK = 255
TRIES = 50  # crops looked at before the last one is taken whatever it holds


def _no_marks() -> np.ndarray:
    return np.zeros((0, 0, 0, 0), np.uint8)


@dataclass(frozen=True)
class Source:
    """A volume with what is known of it, in memory.

    Parameters
    ----------
    image : float32, (Z, Y, X)
        Normalised.
    truth : int32, (Z, Y, X)
    weight : float
        How often crops come from here, relative to other sources.
    marks : uint8, (K, Z, Y, X)
        1 yes, 0 no, 255 unknown; default: there are none.
    flat : bool
        Objects are of each section alone; whether neighbours along z belong together is unknown.
    sections : two int
        Of a crop every n-th section is shown, n drawn from this range.
    rare : float
        Share of crops that are laid around one of `places`.
    places : int array, (N, 3)
        Voxels, z y x, that crops are laid around; default: there are none.
    name : str
    """

    image: np.ndarray
    truth: np.ndarray
    weight: float = 1.0
    marks: np.ndarray = field(default_factory=_no_marks)
    flat: bool = False
    sections: tuple[int, int] = (1, 1)
    rare: float = 0.0
    places: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    name: str = ""

    def __post_init__(self) -> None:
        if self.image.shape != self.truth.shape:
            raise ValueError(
                f"labels must cover the image; got labels of shape {self.truth.shape} for an "
                f"image of shape {self.image.shape}"
            )
        object.__setattr__(self, "marks", _covering(self.marks, self.image))


@dataclass(frozen=True)
class Sample:
    """A crop: image float32 (Z, Y, X), truth int32 (Z, Y, X), or larger by the same at all sides.

    What of the truth lies around the image is looked at for what its objects are, and is not
    itself to be learnt. Marks, uint8 (K, Z, Y, X), cover the image.
    """

    image: np.ndarray
    truth: np.ndarray
    marks: np.ndarray = field(default_factory=_no_marks)
    flat: bool = False
    every: int = 1
    """Sections of the source from one of the crop's to the next."""
    number: int = 0
    """Of the source among those that were drawn from."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "marks", _covering(self.marks, self.image))

    def showing(self, image: np.ndarray) -> Sample:
        """The same, with another image of its voxels."""
        return replace(self, image=image)

    @property
    def planar(self) -> bool:
        """Whether the crop cannot be turned out of its sections: z is not as y and x are."""
        return self.flat or self.every > 1

    @property
    def around(self) -> Triple:
        """Voxels of truth at each side of the image."""
        sides = zip(self.truth.shape, self.image.shape, strict=True)
        return zyx([(outer - inner) // 2 for outer, inner in sides])

    @property
    def known(self) -> np.ndarray:
        """The truth of the image's own voxels."""
        sides = zip(self.around, self.truth.shape, strict=True)
        return self.truth[tuple(slice(a, n - a) for a, n in sides)]


def _covering(marks: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Marks, none of them over the image where none are given."""
    if marks.shape[1:] == image.shape:
        return marks
    if len(marks):
        raise ValueError(
            f"marks must cover the image; got marks of shape {marks.shape[1:]} for an image of "
            f"shape {image.shape}"
        )
    return np.zeros((0, *image.shape), np.uint8)


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
    planar: bool = False,
    around: Triple = (0, 0, 0),
) -> Sample:
    """A random crop in which of at least the fraction `known` of voxels something is known.

    The source is drawn once, by its weight, however little of it is known.

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
    planar : bool
        They are turned and magnified within their sections only.
    around : Triple
        Voxels of truth that are expected at each side of the crop; unknown beyond the source. They
        change nothing about which crop is drawn.

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
        source, every = _thinned(sources[number], shape[0], rng)
        if any(n < side for n, side in zip(source.image.shape, shape, strict=True)):
            raise ValueError(f"a crop of {shape} does not fit in a volume of {source.image.shape}")
        start = _start(source, shape, rng)
        box = Box(start, zyx(start) + shape)
        level = planar or source.flat or every > 1
        matrix = _transform(rng, rotation, scaling, level)
        sample = replace(_cut(source, box, matrix), flat=source.flat, every=every, number=number)
        something = (sample.truth != UNKNOWN) | (sample.marks != UNKNOWN_MARK).any(axis=0)
        if np.mean(something) >= known:
            break
    if any(around):
        return replace(sample, truth=_truth(source, box.grow(around), matrix))
    return sample


def _thinned(source: Source, depth: int, rng: np.random.Generator) -> tuple[Source, int]:
    """Every n-th section of a source, as far as enough of them are left for a crop; and n."""
    low, high = source.sections
    if high == 1:
        return source, 1
    every = int(rng.integers(low, high + 1))
    every = max(1, min(every, (len(source.image) - 1) // max(1, depth - 1)))
    room = len(source.image) - (depth - 1) * every
    first = int(rng.integers(0, min(every, room)))
    kept = slice(first, None, every)
    places = source.places[source.places[:, 0] % every == first] // (every, 1, 1)
    parts = source.image[kept], source.truth[kept], source.marks[:, kept]
    return replace(source, image=parts[0], truth=parts[1], marks=parts[2], places=places), every


def _start(source: Source, shape: Triple, rng: np.random.Generator) -> Triple:
    """The first voxel of a crop: anywhere, or so that a place that is sought lies in it."""
    room = [n - side for n, side in zip(source.image.shape, shape, strict=True)]
    if source.rare and len(source.places) and rng.random() < source.rare:
        place = source.places[rng.integers(len(source.places))]
        first = [int(at - rng.integers(0, side)) for at, side in zip(place, shape, strict=True)]
        return zyx([min(max(0, a), n) for a, n in zip(first, room, strict=True)])
    return zyx([int(rng.integers(0, n + 1)) for n in room])


def _transform(
    rng: np.random.Generator, rotation: float, scaling: float, planar: bool = False
) -> np.ndarray | None:
    """A matrix from places in the crop to places in the volume; None if there is nothing to do."""
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
    """The truth over a box that may leave the source: unknown there."""
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
    """The part of a source that a turned box shows, and where in it the box's first voxel lies."""
    half = (np.array(box.shape) - 1) / 2
    centre = np.array(box.start) + half
    corners = np.array(np.meshgrid(*[(-h, h) for h in half], indexing="ij")).reshape(3, -1)
    reach = np.abs(matrix @ corners).max(axis=1)
    low = np.maximum(0, np.floor(centre - reach).astype(int) - 1)
    high = np.minimum(source.image.shape, np.ceil(centre + reach).astype(int) + 2)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return (z, y, x), centre - low - matrix @ half
