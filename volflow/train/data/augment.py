"""Augmentation of training crops: defects of imaging, cutting and alignment, and symmetries.

Every function takes a crop and a random generator and returns new arrays. Functions that move
voxels move image and truth alike; those that degrade the image leave the truth unchanged, because
the network must still predict it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field, model_validator
from scipy import ndimage

from volflow.checkpoints.header import Padding
from volflow.config.spec import Spec
from volflow.predict.tiling import mirrored_positions
from volflow.train.data.elastic import STIFF, deformed
from volflow.train.data.samples import UNKNOWN, UNKNOWN_MARK, Sample

Chance = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Spacing = Annotated[float, Field(ge=1)]
NEUTRAL = 0.0  # the middle of normalised intensities
MIRRORED = 16  # voxels beyond the end of a volume: the usual halo of a tile
BOXES = 4  # maximum number of blanked boxes in one crop


class Augmentation(Spec):
    """Frequencies and strengths of augmentation; intensities span about -1 to 1."""

    RENAMED: ClassVar[dict[str, str]] = {"ended": "volume_end_fraction"}

    flips: bool = True
    """Whether crops are flipped at random along each axis."""
    transposed_axes: tuple[int, ...] = (0, 1, 2)
    """Axes exchanged at random (0 is z): [1, 2] for thick sections, [] for none."""
    rotation: Amount = 0.0
    """Maximum rotation about a random axis, degrees."""
    planar: bool = False
    """Whether crops are rotated and scaled within sections only: for thick sections."""
    scaling: Amount = 0.0
    """Maximum relative change of size: 0.1 is up to 10 % larger or smaller."""
    contrast: Amount = 0.3
    """Intensities are multiplied by a factor from 1 / (1 + contrast) to 1 + contrast."""
    brightness: Amount = 0.2
    """Maximum intensity added to or subtracted from the whole crop."""
    gamma: Amount = 0.3
    """Gamma correction with an exponent from 1 / (1 + gamma) to 1 + gamma."""
    section_contrast: Amount = 0.05
    """Standard deviation of contrast and brightness from section to section."""
    noise: Amount = 0.15
    """Maximum standard deviation of Gaussian noise, in intensity."""
    blur: Amount = 1.0
    """Maximum standard deviation of the Gaussian blur, voxels."""
    blurred: Chance = 0.2
    """Probability that a crop is blurred, 0 to 1."""
    missing: Chance = 0.0
    """Probability that a section is missing (blank), 0 to 1."""
    shifted: Chance = 0.0
    """Probability that the image of a single section is shifted by up to `shift` voxels, 0 to 1."""
    misaligned: Chance = 0.0
    """Probability that all sections from a random one on are shifted, truth included, 0 to 1."""
    shift: Annotated[int, Field(ge=0)] = 3
    """Maximum shift of sections along y and x, voxels."""
    defects: Chance = 0.0
    """Probability of a dark or bright blot through one to three sections, 0 to 1."""
    cutout: Chance = 0.0
    """Probability that a few boxes of the crop are blank, each side at most a quarter of the
    crop's, 0 to 1."""
    elastic: Chance = 0.0
    """Probability of an elastic deformation, truth included, 0 to 1; within sections only where
    `planar` is set."""
    elastic_shift: tuple[Amount, Amount, Amount] = (0.0, 2.0, 2.0)
    """Standard deviation of the displacement of control points, voxels z y x."""
    elastic_spacing: tuple[Spacing, Spacing, Spacing] = (4.0, 40.0, 40.0)
    """Distance between control points, voxels z y x."""
    volume_end_fraction: Chance = 0.0
    """Fraction of crops in which the volume ends, 0 to 1; beyond its end it is mirrored as the
    stage `predict` does."""
    single_section: Chance = 0.0
    """Fraction of crops that are one section, repeated: what a network is shown of a volume of one
    section. Their affinities along z are unknown."""

    @model_validator(mode="after")
    def _unfolded(self) -> Augmentation:
        for axis, shift, apart in zip("zyx", self.elastic_shift, self.elastic_spacing, strict=True):
            if shift * STIFF > apart:
                raise ValueError(
                    f"elastic_shift along {axis} must be at most 1/{STIFF} of elastic_spacing, or "
                    f"crops fold over; got {shift:g} voxels for points {apart:g} apart"
                )
        return self

    def undistorted(self) -> Augmentation:
        """The same without distortions, so that every voxel is shown as it was imaged."""
        return self.model_copy(update=dict.fromkeys(DISTORTIONS, 0.0))


DISTORTIONS = ("rotation", "scaling", "elastic", "noise", "blurred", "shifted")
"""Augmentations that blur borders between voxels, or move the image relative to its truth."""


def augmented(
    sample: Sample, how: Augmentation, rng: np.random.Generator, padding: Padding = "reflect"
) -> Sample:
    """A crop with all augmentations applied at random."""
    if rng.random() < how.misaligned:
        sample = misaligned(sample, how.shift, rng)
    # No random number is drawn for what is switched off: older trainings see the same crops.
    if how.elastic and rng.random() < how.elastic:
        z, y, x = how.elastic_shift
        shift = (0.0 if how.planar or sample.planar else z, y, x)
        sample = deformed(sample, shift, how.elastic_spacing, rng)
    image = sample.image
    image = shifted_sections(image, how.shifted, how.shift, rng)
    image = uneven_sections(image, how.section_contrast, rng)
    if rng.random() < how.defects:
        image = with_defect(image, rng)
    image = missing_sections(image, how.missing, rng)
    if how.cutout and rng.random() < how.cutout:
        image = cutout(image, rng)
    if rng.random() < how.blurred:
        image = ndimage.gaussian_filter(image, rng.uniform(0, how.blur))
    image = recoloured(image, how, rng)
    image = image + rng.uniform(0, how.noise) * rng.standard_normal(image.shape, np.float32)
    sample = sample.with_image(image.astype(np.float32))
    if how.single_section and rng.random() < how.single_section:
        sample = repeated_section(sample, rng)
    if rng.random() < how.volume_end_fraction:
        sample = end_of_volume(sample, rng, padding)
    return symmetric(sample, how.flips, how.transposed_axes, rng)


def repeated_section(sample: Sample, rng: np.random.Generator) -> Sample:
    """The crop as if the volume were a random one of its sections, which is mirrored along z."""
    z = int(rng.integers(len(sample.image)))

    def repeated(values: np.ndarray, axis: int, at: int) -> np.ndarray:
        return values.take(np.full(values.shape[axis], at), axis)

    return replace(
        sample,
        image=repeated(sample.image, 0, z),
        truth=repeated(sample.truth, 0, sample.margin[0] + z),
        marks=repeated(sample.marks, 1, z),
        flat=True,
    )


def end_of_volume(sample: Sample, rng: np.random.Generator, padding: Padding = "reflect") -> Sample:
    """The crop as if the volume ended in it, on one side or both sides of a random axis.

    Beyond the end, the image is mirrored for `MIRRORED` voxels and repeated farther out, as the
    stage `predict` pads a volume; the truth is unknown there.
    """
    axis = int(rng.integers(0, 3))
    side = sample.image.shape[axis]
    length = int(rng.integers(max(1, side // 4), side + 1))
    first = int(rng.integers(-length // 2, side - length // 2 + 1))
    low, high = max(0, first), min(side, first + length)
    place = (np.arange(side) - low).clip(-MIRRORED, high - low - 1 + MIRRORED)
    place = mirrored_positions(place, high - low, padding) + low
    truth, before = sample.truth.copy(), sample.margin[axis]
    np.moveaxis(truth, axis, 0)[: before + low] = UNKNOWN
    np.moveaxis(truth, axis, 0)[before + high :] = UNKNOWN
    marks = sample.marks.copy()
    np.moveaxis(marks, axis + 1, 0)[:low] = UNKNOWN_MARK
    np.moveaxis(marks, axis + 1, 0)[high:] = UNKNOWN_MARK
    return replace(sample, image=sample.image.take(place, axis), truth=truth, marks=marks)


def symmetric(
    sample: Sample, flips: bool, transposed_axes: Sequence[int], rng: np.random.Generator
) -> Sample:
    """The crop, flipped and with axes of equal length exchanged at random.

    Sections of a planar crop remain sections.
    """
    shape = sample.image.shape
    order = list(range(3))
    transposed_axes = [axis for axis in transposed_axes if axis > 0 or not sample.planar]
    alike = [a for a in transposed_axes if all(shape[a] == shape[b] for b in transposed_axes)]
    for axis, source in zip(alike, rng.permutation(alike), strict=True):
        order[axis] = int(source)
    turned = tuple(axis for axis in range(3) if flips and rng.random() < 0.5)
    image, truth = (
        np.ascontiguousarray(np.flip(part.transpose(order), turned))
        for part in (sample.image, sample.truth)
    )
    lead = sample.marks.transpose(0, *(axis + 1 for axis in order))
    marks = np.ascontiguousarray(np.flip(lead, tuple(axis + 1 for axis in turned)))
    return replace(sample, image=image, truth=truth, marks=marks)


def recoloured(image: np.ndarray, how: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """The image with random contrast, brightness and gamma."""
    contrast, brightness, gamma = rng.uniform(-1, 1, 3)
    image = image * np.float32((1 + how.contrast) ** contrast)
    image = image + np.float32(how.brightness * brightness)
    # Gamma applies between -1 and 1; intensities outside are unchanged.
    inside = np.clip(image, -1, 1)
    corrected = 2 * ((inside + 1) / 2) ** np.float32((1 + how.gamma) ** gamma) - 1
    result: np.ndarray = image + (corrected - inside)
    return result


def uneven_sections(image: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """The image with random contrast and brightness for each section."""
    factor, offset = rng.normal(0, spread, (2, len(image), 1, 1)).astype(np.float32)
    changed: np.ndarray = image * (1 + factor) + offset
    return changed


def missing_sections(image: np.ndarray, chance: float, rng: np.random.Generator) -> np.ndarray:
    """The image with random sections blanked, at most one in four; the truth is unchanged."""
    image = image.copy()
    for section in rng.permutation(len(image))[: max(1, len(image) // 4)]:
        if rng.random() < chance:
            image[section] = NEUTRAL if rng.random() < 0.5 else -1
    return image


def shifted_sections(
    image: np.ndarray, chance: float, most: int, rng: np.random.Generator
) -> np.ndarray:
    """The image with single sections shifted in their plane; edges are repeated."""
    image = image.copy()
    for section in range(len(image)):
        if rng.random() < chance:
            by = rng.integers(-most, most + 1, 2)
            image[section] = ndimage.shift(image[section], by, order=0, mode="nearest")
    return image


def misaligned(sample: Sample, most: int, rng: np.random.Generator) -> Sample:
    """The crop with all sections from a random one on shifted in their plane, truth included."""
    depth = len(sample.image)
    cut = int(rng.integers(1, depth)) if depth > 1 else 0
    y, x = (int(by) for by in rng.integers(-most, most + 1, 2))
    image, truth, marks = sample.image.copy(), sample.truth.copy(), sample.marks.copy()
    image[cut:] = _moved(sample.image[cut:], y, x)
    low = cut + sample.margin[0]
    truth[low:] = _moved(sample.truth[low:], y, x, UNKNOWN)
    marks[:, cut:] = _moved(sample.marks[:, cut:], y, x, UNKNOWN_MARK)
    return replace(sample, image=image, truth=truth, marks=marks)


def _moved(array: np.ndarray, by_y: int, by_x: int, beyond: int | None = None) -> np.ndarray:
    """Sections shifted in their plane; voxels that come in are `beyond`, or repeat the edge."""
    height, width = array.shape[-2:]
    y, x = np.arange(height) - by_y, np.arange(width) - by_x
    moved: np.ndarray = array[..., y.clip(0, height - 1), :][..., x.clip(0, width - 1)]
    if beyond is not None:
        moved[..., (y < 0) | (y >= height), :] = beyond
        moved[..., (x < 0) | (x >= width)] = beyond
    return moved


def with_defect(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image with a round blot, darker or brighter, through one to three sections."""
    depth, height, width = image.shape
    first = int(rng.integers(0, depth))
    radius = rng.uniform(0.05, 0.2) * min(height, width)
    y, x = rng.uniform(0, height), rng.uniform(0, width)
    distance = np.hypot(np.arange(height)[:, None] - y, np.arange(width) - x)
    strength = rng.uniform(0.5, 1.0) * (1 if rng.random() < 0.3 else -1)
    blot = np.float32(strength) / (1 + np.exp(np.clip(distance - radius, -30, 30)))
    image = image.copy()
    image[first : first + int(rng.integers(1, 4))] += blot.astype(np.float32)
    return image


def cutout(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The image with one to `BOXES` boxes blanked; the truth is unchanged.

    References
    ----------
    DeVries and Taylor, Cutout, arXiv:1708.04552, who blank one square of a fixed size.
    """
    image, shape = image.copy(), np.array(image.shape)
    for _ in range(rng.integers(1, BOXES + 1)):
        sides = rng.integers(1, np.maximum(1, shape // 4) + 1)
        starts = rng.integers(0, shape - sides + 1)
        image[tuple(map(slice, starts, starts + sides))] = NEUTRAL
    return image
