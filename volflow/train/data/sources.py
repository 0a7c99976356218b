"""Volumes with truth, for training: in memory, on one voxel size, normalised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from volflow.checkpoints.header import Nanometres, Normalisation
from volflow.core.geometry import Box, Triple
from volflow.io.inputs import open_input
from volflow.io.volume import Volume
from volflow.train.config.sources import MaskSpec, SourceSpec
from volflow.train.config.training import CONTOUR, Training
from volflow.train.data.resample import resampled_image, resampled_labels
from volflow.train.data.samples import UNKNOWN, UNKNOWN_MARK, Source, as_truth
from volflow.train.data.volumes import (
    collect_problems,
    image_checks,
    normalised,
    single_channel_checks,
    size_check,
    source_bounds,
    source_shape,
    synthetic_volume,
)

SIDES = {"cleft": 1, "pre": 2, "post": 3}  # labels of the synthetic volume's synapses


@dataclass(frozen=True)
class SourceRequirements:
    """The voxel size, truth and masks that a training needs of each source.

    Parameters
    ----------
    voxel_size_nm : three floats, optional
        Voxel size z y x that sources are resampled to; default: as stored.
    truth : bool
        Whether labels of objects are needed.
    masks : tuple of (str, Triple)
        Channels of masks, and how far their contours reach, voxels z y x.
    foreground : bool
        Whether the foreground is needed; it is then the first mark.
    """

    voxel_size_nm: Nanometres | None = None
    truth: bool = True
    masks: tuple[tuple[str, Triple], ...] = ()
    foreground: bool = False

    @classmethod
    def of(cls, training: Training) -> SourceRequirements:
        """The requirements of a training."""
        heads = training.masks.values()
        masks = tuple((name, head.contour) for head in heads for name in head.channels)
        truth = bool(training.offsets) or training.descriptors is not None
        return cls(training.voxel_size_nm, truth, masks, training.foreground is not None)


@dataclass(frozen=True)
class _Volumes:
    """The arrays of a source, (Z, Y, X) each; None where it has no such volume."""

    image: np.ndarray
    labels: np.ndarray | None
    masks: dict[str, np.ndarray]
    known: np.ndarray | None = None


def open_source(
    spec: SourceSpec, rule: Normalisation, required: SourceRequirements | None = None
) -> Source:
    """Read a source into memory, resampled and normalised.

    Raises
    ------
    PlanError
        If the image is constant. `source_problems` reports all other problems.
    """
    required = required or SourceRequirements()
    volumes = _resampled(spec, _read(spec, required), required)
    image = normalised(volumes.image, rule, spec)
    truth = np.full(image.shape, UNKNOWN, np.int32)
    if volumes.labels is not None and required.truth:
        truth = as_truth(volumes.labels, spec.zero == "background")
    marks = _marks(volumes, required, spec)
    places = _places(marks, required) if spec.rare else np.zeros((0, 3), np.int64)
    return Source(
        image,
        truth,
        spec.weight,
        marks,
        flat=spec.flat,
        sections=spec.sections,
        rare=spec.rare,
        places=places,
        name=spec.title,
    )


def contours(labels: np.ndarray, reach: Triple) -> np.ndarray:
    """Voxels near a label other than their own.

    Parameters
    ----------
    labels : integers, (Z, Y, X)
    reach : Triple
        Voxels along z, y and x to each side; outside the volume there are no labels.

    Returns
    -------
    bool array, (Z, Y, X)
    """
    size = [2 * side + 1 for side in reach]
    highest = ndimage.maximum_filter(labels, size, mode="nearest")
    border: np.ndarray = highest != ndimage.minimum_filter(labels, size, mode="nearest")
    return border


def _read(spec: SourceSpec, required: SourceRequirements) -> _Volumes:
    """The volumes of a source, in voxels as stored."""
    used = source_bounds(spec)
    if spec.synthetic is not None:
        return _rendered(spec, used)
    assert spec.image is not None
    names = {name.removesuffix(CONTOUR) for name, _ in required.masks}
    return _Volumes(
        Volume.open(spec.image).read(used),
        None if spec.labels is None else Volume.open(spec.labels).read(used),
        {name: _mask(mask, used) for name, mask in spec.masks.items() if name in names},
        None if spec.known is None else _mask(spec.known, used) != 0,
    )


def _resampled(spec: SourceSpec, stored: _Volumes, required: SourceRequirements) -> _Volumes:
    """The volumes of a source at the training's voxel size, labels eroded."""
    shape = source_shape(spec, required.voxel_size_nm)
    labels = None if stored.labels is None else resampled_labels(stored.labels, shape)
    if labels is not None and spec.eroded:
        labels = np.where(contours(labels, (0, spec.eroded, spec.eroded)), 0, labels)
    return _Volumes(
        resampled_image(stored.image, shape),
        labels,
        {name: resampled_labels(mask, shape) for name, mask in stored.masks.items()},
        None if stored.known is None else resampled_labels(stored.known, shape),
    )


def _mask(spec: MaskSpec, used: Box) -> np.ndarray:
    """The objects of a mask; a single object where its values are listed."""
    stored = Volume.open(spec).read(used)
    return stored if spec.values is None else np.isin(stored, spec.values)


def _rendered(spec: SourceSpec, used: Box) -> _Volumes:
    """The volumes of a synthetic source."""
    assert spec.synthetic is not None
    scene = synthetic_volume(spec.synthetic).scene(used)
    masks = {"mitochondria": scene.mitochondria, "nuclei": scene.nuclei}
    if scene.sides is not None and scene.synapses is not None:
        masks |= {
            name: np.where(scene.sides == side, scene.synapses, 0) for name, side in SIDES.items()
        }
    present = {name: mask for name, mask in masks.items() if mask is not None}
    return _Volumes(scene.rendered.image, scene.rendered.truth, present)


def _marks(volumes: _Volumes, required: SourceRequirements, spec: SourceSpec) -> np.ndarray:
    """Foreground and masks of each voxel, uint8 (K, Z, Y, X)."""
    first = int(required.foreground)
    marks = np.full((first + len(required.masks), *volumes.image.shape), UNKNOWN_MARK, np.uint8)
    if first and volumes.labels is not None and spec.zero == "background":
        marks[0] = volumes.labels != 0
    for mark, (name, reach) in zip(marks[first:], required.masks, strict=True):
        mask = volumes.masks.get(name.removesuffix(CONTOUR))
        if mask is None:
            continue
        if name.endswith(CONTOUR):
            mark[...] = contours(mask, (0 if spec.flat else reach[0], *reach[1:]))
        else:
            mark[...] = mask != 0
        if volumes.known is not None:
            mark[~volumes.known] = UNKNOWN_MARK
    return marks


def _places(marks: np.ndarray, required: SourceRequirements) -> np.ndarray:
    """Voxels of masks, int (N, 3)."""
    masks = [
        mark == 1
        for mark, (name, _) in zip(marks[int(required.foreground) :], required.masks, strict=True)
        if not name.endswith(CONTOUR)
    ]
    return np.argwhere(np.any(masks, axis=0)) if masks else np.zeros((0, 3), np.int64)


def source_problems(training: Training) -> list[str]:
    """The problems of the volumes of a training, one sentence each; no voxels are read."""
    specs = [(f"sources[{n}]", spec, training.crop) for n, spec in enumerate(training.sources)]
    rules = training.validation
    if rules.source is not None:
        specs.append(("validation.source", rules.source, (1, 1, 1)))
    specs += [(f"validation.sources[{n}]", s, (1, 1, 1)) for n, s in enumerate(rules.sources)]
    return spec_problems(specs, training.voxel_size_nm)


def spec_problems(
    specs: Sequence[tuple[str, SourceSpec, Triple]], voxel_size_nm: Nanometres
) -> list[str]:
    """The problems of sources, one sentence each; no voxels are read.

    Parameters
    ----------
    specs : sequence of (str, SourceSpec, Triple)
        Name and source, and the minimum shape of a source after resampling, z y x.
    voxel_size_nm : three floats
        Voxel size z y x that sources are resampled to.
    """
    return collect_problems(
        (name, _checks(spec, voxel_size_nm, least)) for name, spec, least in specs
    )


def _checks(spec: SourceSpec, voxel_size_nm: Nanometres, least: Triple) -> Iterator[str]:
    used = source_bounds(spec)
    yield from image_checks(spec, used)
    for part in (spec.labels, *spec.masks.values(), spec.known):
        if part is None:
            continue
        volume = open_input(part)
        yield from single_channel_checks(volume, used)
        if volume.dtype.kind not in "iub":
            yield f"{volume.address}: expected integer labels, got {volume.dtype}"
    yield from size_check(spec, voxel_size_nm, least, "the size of a crop")
