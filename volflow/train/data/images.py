"""Images without labels, for pretraining: in memory, on one voxel size, cut into random crops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from volflow.core.geometry import Triple
from volflow.io.volume import Volume
from volflow.train.config.pretraining import ImageSpec, Pretraining, smallest_source
from volflow.train.data.resample import resampled_image
from volflow.train.data.volumes import (
    collect_problems,
    image_checks,
    normalised,
    size_check,
    source_bounds,
    source_shape,
    synthetic_volume,
)


@dataclass(frozen=True)
class Image:
    """A volume in memory: float32 (Z, Y, X), normalised, at least as large as a crop."""

    voxels: np.ndarray
    weight: float = 1.0
    sections: tuple[int, int] = (1, 1)


def open_image(spec: ImageSpec, config: Pretraining) -> Image:
    """Read a source into memory, resampled and normalised.

    Raises
    ------
    PlanError
        If the image is constant. `image_problems` reports all other problems.
    """
    used = source_bounds(spec)
    if spec.synthetic is not None:
        stored = synthetic_volume(spec.synthetic).render(used).image
    else:
        assert spec.image is not None
        stored = Volume.open(spec.image).read(used)
    resampled = resampled_image(stored, source_shape(spec, config.voxel_size_nm))
    image = normalised(resampled, config.normalisation, spec)
    return Image(padded_by_reflection(image, config.crop), spec.weight, spec.sections)


def padded_by_reflection(image: np.ndarray, crop: Triple) -> np.ndarray:
    """The image, padded by reflection along axes on which it is smaller than a crop."""
    missing = [max(0, side - n) for n, side in zip(image.shape, crop, strict=True)]
    if not any(missing):
        return image
    return np.pad(image, [(n // 2, n - n // 2) for n in missing], mode="reflect")


def random_crop(sources: list[Image], crop: Triple, rng: np.random.Generator) -> np.ndarray:
    """A random crop, flipped at random, and with y and x exchanged at random if of one length.

    Returns
    -------
    float32 array, of the shape of the crop
    """
    weights = np.array([source.weight for source in sources], float)
    source = sources[rng.choice(len(sources), p=weights / weights.sum())]
    depth, *_ = source.voxels.shape
    least, most = source.sections
    # Every n-th section of a range that is 1 + (crop - 1) n sections deep.
    most = min(most, max(1, (depth - 1) // max(1, crop[0] - 1)))
    n = int(rng.integers(min(least, most), most + 1))
    sides = (1 + (crop[0] - 1) * n, crop[1], crop[2])
    start = [
        int(rng.integers(0, length - side + 1))
        for length, side in zip(source.voxels.shape, sides, strict=True)
    ]
    z, y, x = (slice(a, a + side) for a, side in zip(start, sides, strict=True))
    voxels = source.voxels[z, y, x][::n]
    for axis in range(3):
        if rng.random() < 0.5:
            voxels = np.flip(voxels, axis)
    if crop[1] == crop[2] and rng.random() < 0.5:
        voxels = voxels.swapaxes(1, 2)
    return np.ascontiguousarray(voxels)


def image_problems(config: Pretraining) -> list[str]:
    """The problems of the volumes of a pretraining, one sentence each; no voxels are read."""
    specs = [(f"sources[{n}]", spec) for n, spec in enumerate(config.sources)]
    specs.append(("validation.source", config.validation.source))
    return collect_problems((name, _checks(spec, config)) for name, spec in specs)


def _checks(spec: ImageSpec, config: Pretraining) -> Iterator[str]:
    reason = f"which can be reflected to a crop of {config.crop}"
    yield from image_checks(spec, source_bounds(spec))
    yield from size_check(spec, config.voxel_size_nm, smallest_source(config.crop), reason)
