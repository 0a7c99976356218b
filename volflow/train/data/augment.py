"""What a microscope, a knife and an aligner do to sections, done to training crops.

Every function takes a crop and a random generator and returns new arrays. Those that move voxels
move image and truth alike; those that spoil the image leave the truth, which shall still be found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy import ndimage

from volflow.checkpoints.header import Padding
from volflow.predict.tiling import mirrored
from volflow.train.data.elastic import STIFF, bent
from volflow.train.data.samples import UNKNOWN, UNKNOWN_MARK, Sample

Chance = Annotated[float, Field(ge=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Spacing = Annotated[float, Field(ge=1)]
NEUTRAL = 0.0  # the middle of normalised intensities
MIRRORED = 16  # voxels: the usual halo of a tile
BOXES = 4  # blanked in one crop, at most


class Augmentation(BaseModel):
    """How often and how strongly crops are changed; intensities span about -1 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    flips: bool = True
    """Along every axis."""
    transposed_axes: tuple[int, ...] = (0, 1, 2)
    """Axes exchanged at random; (1, 2) for thick sections, () for none."""
    rotation: Amount = 0.0
    """Degrees, about a random axis."""
    planar: bool = False
    """Turned and magnified within sections only: for thick sections."""
    scaling: Amount = 0.0
    """0.1: up to 10 % larger or smaller."""
    contrast: Amount = 0.3
    """Factor between 1 / (1 + contrast) and 1 + contrast."""
    brightness: Amount = 0.2
    """Added to the whole crop, at most."""
    gamma: Amount = 0.3
    """Exponent between 1 / (1 + gamma) and 1 + gamma."""
    section_contrast: Amount = 0.05
    """Standard deviation of each section's own contrast and brightness."""
    noise: Amount = 0.15
    """Standard deviation of Gaussian noise, at most."""
    blur: Amount = 1.0
    """Standard deviation in voxels of a Gaussian, at most."""
    blurred: Chance = 0.2
    """Chance of a blurred crop."""
    missing: Chance = 0.0
    """Chance that a section is missing: blank."""
    shifted: Chance = 0.0
    """Chance that a section lies elsewhere, by up to `shift` voxels."""
    misaligned: Chance = 0.0
    """Chance of a crop in which all sections from one on lie elsewhere, truth included."""
    shift: Annotated[int, Field(ge=0)] = 3
    """Voxels, at most."""
    defects: Chance = 0.0
    """Chance of a crop with a dark or bright blot, a few sections thick."""
    cutout: Chance = 0.0
    """Chance of a crop in which a few boxes are blank, each up to a quarter of its sides long."""
    elastic: Chance = 0.0
    """Chance of a crop that is bent, truth included; of planar ones, within sections only."""
    elastic_shift: tuple[Amount, Amount, Amount] = (0.0, 2.0, 2.0)
    """Voxels z y x that control points are moved by, standard deviation."""
    elastic_spacing: tuple[Spacing, Spacing, Spacing] = (4.0, 40.0, 40.0)
    """Voxels z y x from one control point to the next."""
    ended: Chance = 0.0
    """Chance that the volume ends within the crop: beyond, it is mirrored as `predict` does."""

    @model_validator(mode="after")
    def _unfolded(self) -> Augmentation:
        for axis, shift, apart in zip("zyx", self.elastic_shift, self.elastic_spacing, strict=True):
            if shift * STIFF > apart:
                raise ValueError(
                    f"elastic_shift along {axis} must be at most 1/{STIFF} of elastic_spacing, or "
                    f"crops fold over; got {shift:g} voxels for points {apart:g} apart"
                )
        return self

    def sharp(self) -> Augmentation:
        """Without what spoils how a border lies among single voxels, or moves it off its image."""
        return self.model_copy(update=dict.fromkeys(UNSHARP, 0.0))


UNSHARP = ("rotation", "scaling", "elastic", "noise", "blurred", "shifted")


def augmented(
    sample: Sample, how: Augmentation, rng: np.random.Generator, padding: Padding = "reflect"
) -> Sample:
    """The crop, changed in all ways at random; its axes may be exchanged, but keep their names."""
    if rng.random() < how.misaligned:
        sample = misaligned(sample, how.shift, rng)
    # Nothing is drawn for what is off, so that trainings without it see what they always saw.
    if how.elastic and rng.random() < how.elastic:
        z, y, x = how.elastic_shift
        shift = (0.0 if how.planar or sample.planar else z, y, x)
        sample = bent(sample, shift, how.elastic_spacing, rng)
    image = sample.image
    image = shifted_sections(image, how.shifted, how.shift, rng)
    image = uneven_sections(image, how.section_contrast, rng)
    if rng.random() < how.defects:
        image = stained(image, rng)
    image = missing_sections(image, how.missing, rng)
    if how.cutout and rng.random() < how.cutout:
        image = cut_out(image, rng)
    if rng.random() < how.blurred:
        image = ndimage.gaussian_filter(image, rng.uniform(0, how.blur))
    image = recoloured(image, how, rng)
    image = image + rng.uniform(0, how.noise) * rng.standard_normal(image.shape, np.float32)
    sample = sample.showing(image.astype(np.float32))
    if rng.random() < how.ended:
        sample = ended(sample, rng, padding)
    return symmetric(sample, how.flips, how.transposed_axes, rng)


def ended(sample: Sample, rng: np.random.Generator, padding: Padding = "reflect") -> Sample:
    """The crop as if the volume ended in it, above, below or on both sides along one axis.

    What lies beyond is mirrored, and farther out than `MIRRORED` repeated, as `predict` shows
    the surroundings of a volume to a network; its truth is unknown.
    """
    axis = int(rng.integers(0, 3))
    side = sample.image.shape[axis]
    kept = int(rng.integers(max(1, side // 4), side + 1))
    first = int(rng.integers(-kept // 2, side - kept // 2 + 1))
    low, high = max(0, first), min(side, first + kept)
    place = (np.arange(side) - low).clip(-MIRRORED, high - low - 1 + MIRRORED)
    place = mirrored(place, high - low, padding) + low
    truth, before = sample.truth.copy(), sample.around[axis]
    np.moveaxis(truth, axis, 0)[: before + low] = UNKNOWN
    np.moveaxis(truth, axis, 0)[before + high :] = UNKNOWN
    marks = sample.marks.copy()
    np.moveaxis(marks, axis + 1, 0)[:low] = UNKNOWN_MARK
    np.moveaxis(marks, axis + 1, 0)[high:] = UNKNOWN_MARK
    return replace(sample, image=sample.image.take(place, axis), truth=truth, marks=marks)


def symmetric(
    sample: Sample, flips: bool, transposed_axes: Sequence[int], rng: np.random.Generator
) -> Sample:
    """The crop, flipped and with axes exchanged; axes of different length stay as they are.

    Of a planar crop the sections stay sections.
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
    """Contrast, brightness and gamma of the whole crop."""
    contrast, brightness, gamma = rng.uniform(-1, 1, 3)
    image = image * np.float32((1 + how.contrast) ** contrast)
    image = image + np.float32(how.brightness * brightness)
    # Gamma bends the scale between its ends, -1 and 1, and leaves what lies beyond as it is.
    inside = np.clip(image, -1, 1)
    bent = 2 * ((inside + 1) / 2) ** np.float32((1 + how.gamma) ** gamma) - 1
    result: np.ndarray = image + (bent - inside)
    return result


def uneven_sections(image: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Each section with a contrast and brightness of its own."""
    factor, offset = rng.normal(0, spread, (2, len(image), 1, 1)).astype(np.float32)
    changed: np.ndarray = image * (1 + factor) + offset
    return changed


def missing_sections(image: np.ndarray, chance: float, rng: np.random.Generator) -> np.ndarray:
    """Sections blanked, each crop at most one in four; truth goes on through them."""
    image = image.copy()
    for section in rng.permutation(len(image))[: max(1, len(image) // 4)]:
        if rng.random() < chance:
            image[section] = NEUTRAL if rng.random() < 0.5 else -1
    return image


def shifted_sections(
    image: np.ndarray, chance: float, most: int, rng: np.random.Generator
) -> np.ndarray:
    """Single sections moved in their plane, in the image only; edges are repeated."""
    image = image.copy()
    for section in range(len(image)):
        if rng.random() < chance:
            by = rng.integers(-most, most + 1, 2)
            image[section] = ndimage.shift(image[section], by, order=0, mode="nearest")
    return image


def misaligned(sample: Sample, most: int, rng: np.random.Generator) -> Sample:
    """All sections from a random one on moved in their plane, image and truth alike."""
    depth = len(sample.image)
    cut = int(rng.integers(1, depth)) if depth > 1 else 0
    y, x = (int(by) for by in rng.integers(-most, most + 1, 2))
    image, truth, marks = sample.image.copy(), sample.truth.copy(), sample.marks.copy()
    image[cut:] = _moved(sample.image[cut:], y, x)
    low = cut + sample.around[0]
    truth[low:] = _moved(sample.truth[low:], y, x, UNKNOWN)
    marks[:, cut:] = _moved(sample.marks[:, cut:], y, x, UNKNOWN_MARK)
    return replace(sample, image=image, truth=truth, marks=marks)


def _moved(array: np.ndarray, by_y: int, by_x: int, beyond: int | None = None) -> np.ndarray:
    """Sections moved in their plane; what comes in is `beyond`, or the edge repeated."""
    height, width = array.shape[-2:]
    y, x = np.arange(height) - by_y, np.arange(width) - by_x
    moved: np.ndarray = array[..., y.clip(0, height - 1), :][..., x.clip(0, width - 1)]
    if beyond is not None:
        moved[..., (y < 0) | (y >= height), :] = beyond
        moved[..., (x < 0) | (x >= width)] = beyond
    return moved


def stained(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A round blot, darker or brighter, through one to three sections."""
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


def cut_out(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One to `BOXES` boxes of the crop blanked; its truth goes on through them.

    After DeVries and Taylor, Cutout, arXiv:1708.04552, who blank one square of a fixed size.
    """
    image, shape = image.copy(), np.array(image.shape)
    for _ in range(rng.integers(1, BOXES + 1)):
        sides = rng.integers(1, np.maximum(1, shape // 4) + 1)
        starts = rng.integers(0, shape - sides + 1)
        image[tuple(map(slice, starts, starts + sides))] = NEUTRAL
    return image
