"""Volumes with truth, read into memory and normalised."""

from __future__ import annotations

import numpy as np

from volflow.core.geometry import Box, Triple
from volflow.core.header import Normalisation
from volflow.errors import PlanError, StorageError
from volflow.io.volume import Volume
from volflow.segment.intensity import intensity_histogram, intensity_range, normalise
from volflow.synth import Neuropil
from volflow.train.config import SourceSpec, Synthetic, Training
from volflow.train.samples import Source, as_truth


def opened(spec: SourceSpec, rule: Normalisation) -> Source:
    """A source in memory.

    Its intensities are normalised by the part that is used, as a prediction over that part
    alone would do.

    Raises
    ------
    PlanError
        If the image is constant. What else may be wrong is told by `refusals`.
    """
    if spec.synthetic is not None:
        image, labels = _made(spec.synthetic, _bounds(spec))
    else:
        assert spec.image is not None
        assert spec.labels is not None
        used = _bounds(spec)
        image, labels = (Volume.open(part).read(used) for part in (spec.image, spec.labels))
    low, high = rule.low, rule.high
    if rule.kind == "percentiles":
        try:
            low, high = intensity_range(intensity_histogram(image), low, high)
        except ValueError as error:
            raise PlanError(f"{_named(spec)}: {error}") from error
    shown = normalise(image, low, high, rule.onto, rule.clip)
    return Source(shown, as_truth(labels, spec.zero == "background"), spec.weight)


def refusals(training: Training) -> list[str]:
    """What is wrong with the volumes of a training, one sentence each; no voxels are read."""
    specs = [(f"sources[{n}]", spec) for n, spec in enumerate(training.sources)]
    wrong = []
    for name, spec in [*specs, ("validation.source", training.validation.source)]:
        smallest: Triple = (1, 1, 1) if name.startswith("validation") else training.crop
        wrong += [f"{name}: {text}" for text in _refusals(spec, training, smallest)]
    return wrong


def _refusals(spec: SourceSpec, training: Training, smallest: Triple) -> list[str]:
    wrong = []
    try:
        used = _bounds(spec)
        if spec.image is not None and spec.labels is not None:
            image, labels = Volume.open(spec.image), Volume.open(spec.labels)
            wrong += [
                f"{volume.address} covers {volume.bounds}, not {used}"
                for volume in (image, labels)
                if not volume.bounds.covers(used)
            ]
            wrong += [
                f"{volume.address} has {volume.channels} channels; wanted none"
                for volume in (image, labels)
                if volume.channels
            ]
            if image.dtype not in (np.uint8, np.uint16):
                wrong.append(f"{image.address} holds {image.dtype}; wanted uint8 or uint16")
            if labels.dtype.kind not in "iu":
                wrong.append(f"{labels.address} holds {labels.dtype}; wanted integer labels")
            if image.resolution and not np.allclose(
                image.resolution, training.voxel_size_nm, rtol=0.01
            ):
                wrong.append(
                    f"{image.address} has voxels of {image.resolution} nm; voxel_size_nm says "
                    f"{training.voxel_size_nm}"
                )
    except StorageError as error:
        return [str(error)]
    if any(have < want for have, want in zip(used.shape, smallest, strict=True)):
        wrong.append(f"{used} is smaller than a crop of {smallest}")
    return wrong


def _bounds(spec: SourceSpec) -> Box:
    if spec.bounds is not None:
        return Box.parse(spec.bounds)
    if spec.synthetic is not None:
        return Box.parse(spec.synthetic.bounds)
    assert spec.image is not None
    return Volume.open(spec.image).bounds


def _made(how: Synthetic, used: Box) -> tuple[np.ndarray, np.ndarray]:
    made = Neuropil(Box.parse(how.bounds), seed=how.seed, cell=how.cell, noise=how.noise)
    found = made.render(used)
    return found.image, found.truth


def _named(spec: SourceSpec) -> str:
    return spec.image.path if spec.image is not None else "synthetic volume"
