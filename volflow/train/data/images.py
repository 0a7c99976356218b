"""Volumes that are only looked at: read into memory, on one voxel size, cut into crops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from volflow.core.geometry import Box, Triple, zyx
from volflow.errors import PlanError, StorageError
from volflow.io.volume import Volume
from volflow.predict.intensity import intensity_histogram, intensity_range, normalise
from volflow.synth import Neuropil
from volflow.train.config.pretraining import ImageSpec, Pretraining, smallest
from volflow.train.data.resample import resampled_image, resampled_shape


@dataclass(frozen=True)
class Image:
    """A volume in memory: float32 (Z, Y, X), normalised, at least as large as a crop."""

    voxels: np.ndarray
    weight: float = 1.0
    sections: tuple[int, int] = (1, 1)


def opened_image(spec: ImageSpec, config: Pretraining) -> Image:
    """A source in memory, normalised by the part that is used.

    Raises
    ------
    PlanError
        If the image is constant. What else may be wrong is told by `image_refusals`.
    """
    used = _bounds(spec)
    if spec.synthetic is not None:
        how = spec.synthetic
        made = Neuropil(Box.parse(how.bounds), **how.model_dump(exclude={"bounds"}))
        stored = made.render(used).image
    else:
        assert spec.image is not None
        stored = Volume.open(spec.image).read(used)
    stored = resampled_image(stored, _shape(spec, config))
    rule = config.normalisation
    low, high = rule.low, rule.high
    if rule.kind == "percentiles":
        try:
            low, high = intensity_range(intensity_histogram(stored), low, high)
        except ValueError as error:
            raise PlanError(f"{_named(spec)}: {error}") from error
    shown = normalise(stored, low, high, rule.onto, rule.clip)
    return Image(mirrored(shown, config.crop), spec.weight, spec.sections)


def mirrored(image: np.ndarray, crop: Triple) -> np.ndarray:
    """The image continued by its mirror image where it is smaller than a crop."""
    lacking = [max(0, side - n) for n, side in zip(image.shape, crop, strict=True)]
    if not any(lacking):
        return image
    return np.pad(image, [(n // 2, n - n // 2) for n in lacking], mode="reflect")


def drawn(sources: list[Image], crop: Triple, rng: np.random.Generator) -> np.ndarray:
    """A random crop, flipped, and with y and x exchanged if they are of one length.

    Returns
    -------
    float32, of the shape of the crop
    """
    weights = np.array([source.weight for source in sources], float)
    source = sources[rng.choice(len(sources), p=weights / weights.sum())]
    depth, *_ = source.voxels.shape
    least, most = source.sections
    # The n-th section counted from the first: depth 1 + (crop - 1) n.
    most = min(most, max(1, (depth - 1) // max(1, crop[0] - 1)))
    every = int(rng.integers(min(least, most), most + 1))
    sides = (1 + (crop[0] - 1) * every, crop[1], crop[2])
    start = [
        int(rng.integers(0, n - side + 1))
        for n, side in zip(source.voxels.shape, sides, strict=True)
    ]
    z, y, x = (slice(a, a + side) for a, side in zip(start, sides, strict=True))
    cut = source.voxels[z, y, x][::every]
    for axis in range(3):
        if rng.random() < 0.5:
            cut = np.flip(cut, axis)
    if crop[1] == crop[2] and rng.random() < 0.5:
        cut = cut.swapaxes(1, 2)
    return np.ascontiguousarray(cut)


def image_refusals(config: Pretraining) -> list[str]:
    """What is wrong with the volumes of a pretraining; no voxels are read."""
    specs = [(f"sources[{n}]", spec) for n, spec in enumerate(config.sources)]
    specs.append(("validation.source", config.validation.source))
    return [f"{name}: {text}" for name, spec in specs for text in _refusals(spec, config)]


def _refusals(spec: ImageSpec, config: Pretraining) -> list[str]:
    wrong = []
    try:
        used = _bounds(spec)
        if spec.image is not None:
            image = Volume.open(spec.image)
            if not image.bounds.covers(used):
                wrong.append(f"{image.address} covers {image.bounds}, not {used}")
            if image.channels:
                wrong.append(f"{image.address} has {image.channels} channels; expected none")
            if image.dtype not in (np.uint8, np.uint16):
                wrong.append(f"{image.address} holds {image.dtype}; expected uint8 or uint16")
        shape = _shape(spec, config)
    except StorageError as error:
        return [str(error)]
    least = smallest(config.crop)
    if any(have < want for have, want in zip(shape, least, strict=True)):
        size = "" if shape == used.shape else f", in the pretraining's voxels {shape},"
        wrong.append(
            f"{used}{size} is smaller than {least}, from which a crop of {config.crop} could be "
            "mirrored"
        )
    return wrong


def _shape(spec: ImageSpec, config: Pretraining) -> Triple:
    """The shape of a source in the pretraining's voxels."""
    used, have = _bounds(spec), spec.voxel_size_nm
    if have is None and spec.image is not None:
        have = Volume.open(spec.image).resolution
    if have is None:
        return zyx(used.shape)
    return resampled_shape(used.shape, have, config.voxel_size_nm, spec.resample)


def _bounds(spec: ImageSpec) -> Box:
    if spec.bounds is not None:
        return Box.parse(spec.bounds)
    if spec.synthetic is not None:
        return Box.parse(spec.synthetic.bounds)
    assert spec.image is not None
    return Volume.open(spec.image).bounds


def _named(spec: ImageSpec) -> str:
    return spec.image.path if spec.image is not None else "synthetic volume"
