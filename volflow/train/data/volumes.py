"""Image volumes of a training: their bounds, their shape after resampling, and their checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from volflow.checkpoints.header import Nanometres, Normalisation
from volflow.core.geometry import Box, Triple, zyx
from volflow.errors import PlanError, StorageError
from volflow.io.inputs import open_input
from volflow.io.volume import Volume
from volflow.predict.intensity import intensity_histogram, intensity_range, normalise
from volflow.synth import Neuropil
from volflow.train.config.sources import ImageSource, Synthetic
from volflow.train.data.resample import resampled_shape

NOT_BUNDLED = (
    "training data are not bundled; set VOLFLOW_DATA to the folder that contains them, or give "
    "addresses of your own, such as --set sources.0.image.path=em.zarr (docs/training-data.md)"
)


def collect_problems(checks: Iterable[tuple[str, Iterator[str]]]) -> list[str]:
    """The problems of sources, each with the name of its source.

    Parameters
    ----------
    checks : iterable of (str, iterator of str)
        Name and problems of each source; an iterator ends with a StorageError where a volume
        cannot be opened.
    """
    problems: list[str] = []
    missing = False
    for name, texts in checks:
        try:
            for text in texts:
                problems.append(f"{name}: {text}")
        except StorageError as error:
            problems.append(f"{name}: {error}")
            missing = True
    return [*problems, NOT_BUNDLED] if missing else problems


def source_bounds(spec: ImageSource) -> Box:
    """The part of a source that is used, in voxels as stored."""
    if spec.bounds is not None:
        return Box.parse(spec.bounds)
    if spec.synthetic is not None:
        return Box.parse(spec.synthetic.bounds)
    assert spec.image is not None
    return Volume.open(spec.image).bounds


def source_shape(spec: ImageSource, voxel_size_nm: Nanometres | None) -> Triple:
    """The shape of a source after resampling to a voxel size, or as stored if that is None."""
    used, stored = source_bounds(spec), spec.voxel_size_nm
    if stored is None and spec.image is not None:
        stored = Volume.open(spec.image).resolution
    if stored is None or voxel_size_nm is None:
        return zyx(used.shape)
    return resampled_shape(used.shape, stored, voxel_size_nm, spec.resample)


def synthetic_volume(spec: Synthetic) -> Neuropil:
    """The synthetic volume of a specification; nothing is rendered yet."""
    return Neuropil(Box.parse(spec.bounds), **spec.model_dump(exclude={"bounds"}))


def normalised(image: np.ndarray, rule: Normalisation, spec: ImageSource) -> np.ndarray:
    """An image with the intensities that the network takes, float32 (Z, Y, X).

    Percentiles are those of the image itself, as in a prediction over this part alone.

    Raises
    ------
    PlanError
        If the image is constant.
    """
    low, high = rule.low, rule.high
    if rule.kind == "percentiles":
        try:
            low, high = intensity_range(intensity_histogram(image), low, high)
        except ValueError as error:
            name = spec.image.path if spec.image is not None else "synthetic volume"
            raise PlanError(f"{name}: {error}") from error
    return normalise(image, low, high, rule.onto, rule.clip)


def image_checks(spec: ImageSource, used: Box) -> Iterator[str]:
    """Problems of the image of a source; no voxels are read."""
    if spec.image is None:
        return
    image = open_input(spec.image)
    yield from single_channel_checks(image, used)
    if image.dtype not in (np.uint8, np.uint16):
        yield f"{image.address}: expected uint8 or uint16, got {image.dtype}"


def single_channel_checks(volume: Volume, used: Box) -> Iterator[str]:
    """Problems of a volume that must cover a box and have no channels."""
    if not volume.bounds.covers(used):
        yield f"{volume.address}: expected a volume that covers {used}, got {volume.bounds}"
    if volume.channels:
        yield f"{volume.address}: expected no channels, got {volume.channels}"


def size_check(
    spec: ImageSource, voxel_size_nm: Nanometres, least: Triple, reason: str
) -> Iterator[str]:
    """The problem of a source that is smaller than `least`, in voxels after resampling."""
    used = source_bounds(spec)
    shape = source_shape(spec, voxel_size_nm)
    if any(side < minimum for side, minimum in zip(shape, least, strict=True)):
        size = "" if shape == used.shape else f" ({shape} voxels after resampling)"
        yield f"{used}{size} is too small; expected at least {least}, {reason}"
