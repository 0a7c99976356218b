"""The pretraining file: images without labels, their masking, and the length of the training."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from volflow.checkpoints.header import Nanometres, Normalisation, Sides
from volflow.config.checked_file import load_file
from volflow.config.pipeline import absolute
from volflow.config.spec import Spec
from volflow.core.geometry import Triple, zyx
from volflow.train.config.sources import Axes, Count, ImageSource, Positive, not_empty
from volflow.train.data.masking import CELL, DEPTHS, SIDES


class ImageSpec(ImageSource):
    """An image without labels: stored, or synthetic."""

    resample: Axes = "yx"
    """Axes along which the source is resampled to the pretraining's voxel size, if the two differ
    by more than a tenth."""

    @model_validator(mode="after")
    def _has_one_image(self) -> ImageSpec:
        if (self.image is None) == (self.synthetic is None):
            raise ValueError("expected either image or synthetic")
        return self


class EncoderSpec(Spec):
    """The network whose encoder is pretrained; see `models.mnet`."""

    kind: Literal["mnet"] = "mnet"
    """Name of the network: mnet."""
    widths: tuple[Count, Count, Count, Count, Count] = (32, 64, 96, 128, 256)
    """Channels of each of the five levels, finest first."""
    normalisation: Literal["instance", "batch"] = "instance"
    """Normalisation of activations: `instance`, by the statistics of the tile, as published, or
    `batch`, by constants; as in the training that follows."""


class HeldOut(Spec):
    """Voxels that are not trained on, by which the best encoder is chosen."""

    source: ImageSpec
    """The held-out image."""
    every: Count = 500
    """Steps between two validations."""
    crops: Count = 4
    """Number of crops to validate on, the same ones each time."""


class Pretraining(Spec):
    """A whole pretraining file; defaults follow SegNeuron where possible."""

    out: Annotated[str, Field(min_length=1)]
    """Folder for the encoder, log and pictures; pretraining resumes from a state found there."""
    sources: Annotated[tuple[ImageSpec, ...], AfterValidator(not_empty)]
    """The images to train on."""
    validation: HeldOut
    """The held-out image, and how often it is looked at."""
    voxel_size_nm: Nanometres
    """Voxel size z y x that sources are resampled to, nanometres."""
    network: EncoderSpec = EncoderSpec()
    """The network whose encoder is pretrained."""
    normalisation: Normalisation = Normalisation()
    """Normalisation of intensities, as in the training that follows."""
    crop: Sides = (20, 128, 128)
    """Shape of a crop z y x, voxels; a source that is smaller is padded by reflection."""
    batch: Count = 8
    """Crops per step."""
    steps: Count = 400_000
    """Number of steps."""
    learning_rate: Positive = 1e-2
    """Learning rate of the first step, above 0."""
    least_learning_rate: Positive = 1e-4
    """Learning rate after the fraction `falling` of the steps, above 0."""
    falling: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Fraction of the steps over which the learning rate falls, above 0, at most 1."""
    image_weight: Annotated[float, Field(ge=0)] = 0.2
    """Weight of the squared error of the image in the loss, at least 0; that of the edges is 1."""
    seed: int = 0
    """Seed of weights and crops."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Precision of the forward pass: `bf16` (mixed) or `fp32`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to train on; `auto`: cuda where there is one."""
    threads: Count = 1
    """Threads of torch on a CPU."""
    save_every: Count = 100
    """Steps between two states from which training can be resumed."""

    @model_validator(mode="after")
    def _fits_together(self) -> Pretraining:
        stride = 2 ** (len(self.network.widths) - 1)
        if any(side % stride for side in self.crop[1:]):
            raise ValueError(
                f"crop must be a multiple of {stride} along y and x, the stride of the network; "
                f"got {list(self.crop)}"
            )
        if all(self.crop[0] % depth for depth in DEPTHS):
            raise ValueError(
                f"crop must be a multiple of the depth of a masked cell along z, one of {DEPTHS} "
                f"sections; got {self.crop[0]}"
            )
        assert stride % CELL == 0
        assert stride % min(SIDES) == 0
        if self.least_learning_rate > self.learning_rate:
            raise ValueError(
                f"least_learning_rate must not be above learning_rate; got "
                f"{self.least_learning_rate} and {self.learning_rate}"
            )
        return self

    def rate(self, step: int) -> float:
        """The learning rate of a step: falling with power 1.5, then constant."""
        left = max(0.0, 1 - step / (self.falling * self.steps))
        span = self.learning_rate - self.least_learning_rate
        return self.least_learning_rate + span * math.pow(left, 1.5)


def smallest_source(crop: Triple) -> Triple:
    """The smallest shape of a source that can be padded to a crop by reflection."""
    return zyx(crop) // 2 + 1


def load_pretraining(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Pretraining:
    """Read a pretraining file, with `dotted.key=value` overrides in place of the file's values.

    Relative paths start at the current working directory.

    Raises
    ------
    PlanError
        With all problems, each with its line.
    """
    pretraining, _ = load_file(path, Pretraining, overrides)
    validation = pretraining.validation
    held_out = validation.model_copy(update={"source": validation.source.with_absolute_paths()})
    return pretraining.model_copy(
        update={
            "out": absolute(pretraining.out),
            "sources": tuple(source.with_absolute_paths() for source in pretraining.sources),
            "validation": held_out,
        }
    )
