"""Random crops of volumes with truth: the same crop for the same random generator.

Truth is int32: above 0 an object, 0 background, -1 unknown. Marks are further binary labels of a
voxel (foreground, masks), uint8: 1 yes, 0 no, 255 unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import ndimage

from volflow.core.geometry import Box, Triple, Zyx, zyx

UNKNOWN = -1
UNKNOWN_MARK = 255
TRIES = 50  # crops drawn before one is accepted however little of it is known


def _no_marks() -> np.ndarray:
    return np.zeros((0, 0, 0, 0), np.uint8)


@dataclass(frozen=True)
class Source:
    """A volume with its truth, in memory.

    Parameters
    ----------
    image : float32, (Z, Y, X)
        Normalised intensities.
    truth : int32, (Z, Y, X)
    weight : float
        Relative frequency of crops from this source.
    marks : uint8, (K, Z, Y, X)
        1 yes, 0 no, 255 unknown; default: no channels.
    flat : bool
        Whether labels hold within each section only, so that affinities along z are unknown.
    sections : two int
        A crop has every n-th section, n drawn from this range.
    rare : float
        Fraction of crops that contain one of `places`.
    places : int array, (N, 3)
        Voxels z y x of masks; default: none.
    name : str
        Name in the validation log.
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
                f"labels do not cover the image; expected shape {self.image.shape}, got "
                f"{self.truth.shape}"
            )
        object.__setattr__(self, "marks", _covering(self.marks, self.image))


@dataclass(frozen=True)
class Sample:
    """A crop: image float32 (Z, Y, X), truth int32, marks uint8 (K, Z, Y, X).

    The truth covers the image and an equal margin on both sides of each axis. The margin shows how
    objects continue outside the crop; it is no target itself.
    """

    image: np.ndarray
    truth: np.ndarray
    marks: np.ndarray = field(default_factory=_no_marks)
    flat: bool = False
    section_step: int = 1
    """Sections of the source from one section of the crop to the next."""
    number: int = 0
    """Index of the source."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "marks", _covering(self.marks, self.image))

    def with_image(self, image: np.ndarray) -> Sample:
        """The same crop with another image."""
        return replace(self, image=image)

    @property
    def planar(self) -> bool:
        """Whether z differs from y and x, so that crops may be rotated within sections only."""
        return self.flat or self.section_step > 1

    @property
    def margin(self) -> Zyx:
        """Voxels of truth on each side of the image."""
        return (zyx(self.truth.shape) - zyx(self.image.shape)) // 2

    @property
    def known(self) -> np.ndarray:
        """The truth of the image's own voxels."""
        sides = zip(self.margin, self.truth.shape, strict=True)
        return self.truth[tuple(slice(a, n - a) for a, n in sides)]


def _covering(marks: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Marks of the shape of the image: those given, or none of that shape."""
    if marks.shape[1:] == image.shape:
        return marks
    if len(marks):
        raise ValueError(
            f"marks do not cover the image; expected shape {image.shape}, got {marks.shape[1:]}"
        )
    return np.zeros((0, *image.shape), np.uint8)


def as_truth(labels: np.ndarray, zero_is_background: bool) -> np.ndarray:
    """Labels of any integer dtype as truth, renumbered from 1.

    Parameters
    ----------
    labels : integers, (Z, Y, X)
    zero_is_background : bool
        Whether label 0 is background, which has no affinity to any voxel, or unknown.

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
