"""Volumes and what is known of them: read into memory, on one voxel size, normalised."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from volflow.checkpoints.header import Normalisation
from volflow.core.geometry import Box, Triple
from volflow.errors import PlanError, StorageError
from volflow.io.volume import Volume
from volflow.predict.intensity import intensity_histogram, intensity_range, normalise
from volflow.synth import Neuropil
from volflow.train.config.sources import MaskSpec
from volflow.train.config.training import CONTOUR, SourceSpec, Training
from volflow.train.data.resample import (
    Nanometres,
    resampled_image,
    resampled_labels,
    resampled_shape,
)
from volflow.train.data.samples import UNKNOWN, UNKNOWN_MARK, Source, as_truth

SIDES = {"cleft": 1, "pre": 2, "post": 3}  # in the synthetic volume of synapses


@dataclass(frozen=True)
class Wanted:
    """What a training asks of each source.

    Parameters
    ----------
    voxel_size_nm : three floats, optional
        That sources are brought to; default: they stay as they are.
    truth : bool
        Whether it matters which voxels belong together.
    masks : tuple of (str, Triple)
        Channels of masks, and how far their contours reach, z y x.
    foreground : bool
        Whether it matters what is part of an object; it is then the first mark.
    """

    voxel_size_nm: Nanometres | None = None
    truth: bool = True
    masks: tuple[tuple[str, Triple], ...] = ()
    foreground: bool = False

    @classmethod
    def by(cls, training: Training) -> Wanted:
        """What a training asks."""
        heads = training.masks.values()
        masks = tuple((name, head.contour) for head in heads for name in head.channels)
        truth = bool(training.offsets) or training.descriptors is not None
        return cls(training.voxel_size_nm, truth, masks, training.foreground is not None)


@dataclass(frozen=True)
class _Read:
    """A source as it was read, in the training's voxels; what it does not say is None."""

    image: np.ndarray
    labels: np.ndarray | None
    masks: dict[str, np.ndarray]
    known: np.ndarray | None = None


def opened(spec: SourceSpec, rule: Normalisation, wanted: Wanted | None = None) -> Source:
    """A source in memory.

    Its intensities are normalised by the part that is used, as a prediction over that part
    alone would do.

    Raises
    ------
    PlanError
        If the image is constant. What else may be wrong is told by `refusals`.
    """
    wanted = wanted or Wanted()
    read = _read(spec, wanted)
    low, high = rule.low, rule.high
    if rule.kind == "percentiles":
        try:
            low, high = intensity_range(intensity_histogram(read.image), low, high)
        except ValueError as error:
            raise PlanError(f"{_named(spec)}: {error}") from error
    shown = normalise(read.image, low, high, rule.onto, rule.clip)
    truth = np.zeros(shown.shape, np.int32)
    if read.labels is not None:
        truth = as_truth(read.labels, spec.zero == "background")
    if read.labels is None or not wanted.truth:
        truth = np.full(shown.shape, UNKNOWN, np.int32)
    marks = _marks(read, wanted, spec)
    places = _places(marks, wanted) if spec.rare else np.zeros((0, 3), np.int64)
    return Source(
        shown,
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
    """Voxels near another label than their own.

    Parameters
    ----------
    labels : integers, (Z, Y, X)
    reach : Triple
        Voxels along z, y and x that are looked at to each side; beyond the volume there is nothing.

    Returns
    -------
    bool, (Z, Y, X)
    """
    size = [2 * side + 1 for side in reach]
    most = ndimage.maximum_filter(labels, size, mode="nearest")
    apart: np.ndarray = most != ndimage.minimum_filter(labels, size, mode="nearest")
    return apart


def _read(spec: SourceSpec, wanted: Wanted) -> _Read:
    used = _bounds(spec)
    if spec.synthetic is not None:
        found = _made(spec, used)
    else:
        assert spec.image is not None
        names = {name.removesuffix(CONTOUR) for name, _ in wanted.masks}
        found = _Read(
            Volume.open(spec.image).read(used),
            None if spec.labels is None else Volume.open(spec.labels).read(used),
            {name: _mask(m, used) for name, m in spec.masks.items() if name in names},
            None if spec.known is None else _mask(spec.known, used) != 0,
        )
    shape = _shape(spec, wanted.voxel_size_nm)
    labels = None if found.labels is None else resampled_labels(found.labels, shape)
    if labels is not None and spec.eroded:
        labels = np.where(contours(labels, (0, spec.eroded, spec.eroded)), 0, labels)
    return _Read(
        resampled_image(found.image, shape),
        labels,
        {name: resampled_labels(mask, shape) for name, mask in found.masks.items()},
        None if found.known is None else resampled_labels(found.known, shape),
    )


def _mask(spec: MaskSpec, used: Box) -> np.ndarray:
    """A mask's objects; where its values are listed, one object."""
    stored = Volume.open(spec).read(used)
    return stored if spec.values is None else np.isin(stored, spec.values)


def _marks(read: _Read, wanted: Wanted, spec: SourceSpec) -> np.ndarray:
    """What is known of each voxel but its object, uint8 (K, Z, Y, X)."""
    first = int(wanted.foreground)
    marks = np.full((first + len(wanted.masks), *read.image.shape), UNKNOWN_MARK, np.uint8)
    if first and read.labels is not None and spec.zero == "background":
        marks[0] = read.labels != 0
    for mark, (name, reach) in zip(marks[first:], wanted.masks, strict=True):
        mask = read.masks.get(name.removesuffix(CONTOUR))
        if mask is None:
            continue
        there = mask != 0
        if name.endswith(CONTOUR):
            there = contours(mask, (0 if spec.flat else reach[0], *reach[1:]))
        mark[...] = there
        if read.known is not None:
            mark[~read.known] = UNKNOWN_MARK
    return marks


def _places(marks: np.ndarray, wanted: Wanted) -> np.ndarray:
    """Voxels of masks, int (N, 3)."""
    masks = [
        mark == 1
        for mark, (name, _) in zip(marks[int(wanted.foreground) :], wanted.masks, strict=True)
        if not name.endswith(CONTOUR)
    ]
    return np.argwhere(np.any(masks, axis=0)) if masks else np.zeros((0, 3), np.int64)


def refusals(training: Training) -> list[str]:
    """What is wrong with the volumes of a training, one sentence each; no voxels are read."""
    specs = [(f"sources[{n}]", spec, training.crop) for n, spec in enumerate(training.sources)]
    rules = training.validation
    if rules.source is not None:
        specs.append(("validation.source", rules.source, (1, 1, 1)))
    specs += [(f"validation.sources[{n}]", s, (1, 1, 1)) for n, s in enumerate(rules.sources)]
    return [
        f"{name}: {text}"
        for name, spec, least in specs
        for text in _refusals(spec, training.voxel_size_nm, least)
    ]


def _refusals(spec: SourceSpec, voxel_size_nm: Nanometres, smallest: Triple) -> list[str]:
    wrong = []
    try:
        used = _bounds(spec)
        if spec.image is not None:
            image = Volume.open(spec.image)
            truths = [spec.labels, *spec.masks.values(), spec.known]
            others = [Volume.open(part) for part in truths if part is not None]
            for volume in (image, *others):
                if not volume.bounds.covers(used):
                    wrong.append(f"{volume.address} covers {volume.bounds}, not {used}")
                if volume.channels:
                    wrong.append(f"{volume.address} has {volume.channels} channels; expected none")
            if image.dtype not in (np.uint8, np.uint16):
                wrong.append(f"{image.address} holds {image.dtype}; expected uint8 or uint16")
            wrong += [
                f"{volume.address} holds {volume.dtype}; expected integer labels"
                for volume in others
                if volume.dtype.kind not in "iub"
            ]
        shape = _shape(spec, voxel_size_nm)
    except StorageError as error:
        return [str(error)]
    if any(have < want for have, want in zip(shape, smallest, strict=True)):
        size = "" if shape == used.shape else f", in the training's voxels {shape},"
        wrong.append(f"{used}{size} is smaller than a crop of {smallest}")
    return wrong


def _shape(spec: SourceSpec, voxel_size_nm: Nanometres | None) -> Triple:
    """The shape of a source in the training's voxels."""
    used, have = _bounds(spec), spec.voxel_size_nm
    if have is None and spec.image is not None:
        have = Volume.open(spec.image).resolution
    if have is None or voxel_size_nm is None:
        return used.shape
    return resampled_shape(used.shape, have, voxel_size_nm, spec.resample)


def _bounds(spec: SourceSpec) -> Box:
    if spec.bounds is not None:
        return Box.parse(spec.bounds)
    if spec.synthetic is not None:
        return Box.parse(spec.synthetic.bounds)
    assert spec.image is not None
    return Volume.open(spec.image).bounds


def _made(spec: SourceSpec, used: Box) -> _Read:
    how = spec.synthetic
    assert how is not None
    volume = Neuropil(Box.parse(how.bounds), **how.model_dump(exclude={"bounds"}))
    scene = volume.scene(used)
    masks = {"mitochondria": scene.mitochondria, "nuclei": scene.nuclei}
    if scene.sides is not None and scene.synapses is not None:
        masks |= {
            name: np.where(scene.sides == side, scene.synapses, 0) for name, side in SIDES.items()
        }
    there = {name: mask for name, mask in masks.items() if mask is not None}
    return _Read(scene.rendered.image, scene.rendered.truth, there)


def _named(spec: SourceSpec) -> str:
    return spec.image.path if spec.image is not None else "synthetic volume"
