"""Volumes with truth in memory, and crops of them.

Truth is int32: above 0 an object, 0 background, -1 unknown. Marks are further binary labels of a
voxel (foreground, masks), uint8: 1 yes, 0 no, 255 unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from volflow.core.geometry import Zyx, zyx

UNKNOWN = -1
UNKNOWN_MARK = 255


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
