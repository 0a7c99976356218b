"""Volumes with truth, read into memory and normalised."""

from __future__ import annotations

import numpy as np

from volflow.core.geometry import Box
from volflow.core.header import Normalisation
from volflow.core.pipeline import VolumeSpec
from volflow.errors import PlanError
from volflow.io.volume import Volume
from volflow.segment.intensity import intensity_histogram, intensity_range, normalise
from volflow.synth import Neuropil
from volflow.train.config import SourceSpec, Synthetic
from volflow.train.samples import Source, as_truth


def opened(spec: SourceSpec, rule: Normalisation) -> Source:
    """A source in memory.

    Its intensities are normalised by the part that is used, as a prediction over that part
    alone would do.

    Raises
    ------
    PlanError
        If the labels do not cover the image, or the image holds nothing.
    """
    if spec.synthetic is not None:
        image, labels = _made(spec.synthetic, spec.bounds)
    else:
        assert spec.image is not None
        assert spec.labels is not None
        image, labels = _read(spec.image, spec.labels, spec.bounds)
    low, high = rule.low, rule.high
    if rule.kind == "percentiles":
        try:
            low, high = intensity_range(intensity_histogram(image), low, high)
        except ValueError as error:
            raise PlanError(f"{_named(spec)}: {error}") from error
    shown = normalise(image, low, high, rule.onto, rule.clip)
    return Source(shown, as_truth(labels, spec.zero == "background"), spec.weight)


def _read(image: VolumeSpec, labels: VolumeSpec, part: str | None) -> tuple[np.ndarray, np.ndarray]:
    raw, truth = Volume.open(image), Volume.open(labels)
    bounds = raw.bounds if part is None else Box.parse(part)
    for volume in (raw, truth):
        if not volume.bounds.covers(bounds):
            raise PlanError(f"{volume.address} covers {volume.bounds}, not {bounds}")
        if volume.channels:
            raise PlanError(f"{volume.address} has {volume.channels} channels; wanted none")
    return raw.read(bounds), truth.read(bounds)


def _made(how: Synthetic, part: str | None) -> tuple[np.ndarray, np.ndarray]:
    whole = Box.parse(how.bounds)
    made = Neuropil(whole, seed=how.seed, cell=how.cell, noise=how.noise)
    found = made.render(whole if part is None else Box.parse(part))
    return found.image, found.truth


def _named(spec: SourceSpec) -> str:
    return spec.image.path if spec.image is not None else "synthetic volume"
