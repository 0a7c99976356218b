"""The training file of the quasi-dense tracker: volumes, network, samples and schedule."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from volflow.checkpoints.header import Fraction, Nanometres, Normalisation
from volflow.config.checked_file import load_file
from volflow.config.pipeline import absolute
from volflow.config.spec import Spec
from volflow.train.config.sources import Count, Positive, SourceSpec, not_empty
from volflow.train.data.augment import Augmentation

STRIDES = {"light": 32, "resnet50": 64}  # of which sides of crops are multiples


class DetectorSpec(Spec):
    """The network; see `models.detector.quasidense`."""

    preset: Literal["light", "resnet50"] = "light"
    """`light`, for processors, or `resnet50`, the published network."""
    norm: Literal["channel", "group", "frozen"] | None = None
    """Normalisation in the backbone: `channel` (each pixel by itself), `group` (by the crop) or
    `frozen` (constants, for public weights). Default: channel for light, group for resnet50."""
    stride_in_1x1: bool = False
    """Whether a stage's stride is that of its first 1x1 convolution, as in weights from Caffe."""
    anchor_scale: Positive | None = None
    """Side of anchors in strides, above 0; default: from the sizes of the sources' objects."""
    density: Positive = 0.008
    """Maximum number of proposals per pixel, above 0."""

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of the network's class that differ from the preset's."""
        own = {"stride_in_1x1": self.stride_in_1x1, "density": self.density}
        return own if self.norm is None else {**own, "norm": self.norm}


class SampleSpec(Spec):
    """Boxes that are trained on, in each section, and their assignment to objects."""

    anchors: Count = 256
    """Anchors for the loss of proposals, half of them positive."""
    boxes: Count = 512
    """Proposals for the loss of boxes, a quarter of them positive."""
    keys: Count = 128
    """Boxes of the key section that are embedded, positive ones alone."""
    references: Count = 256
    """Boxes of the reference section that are embedded, half of them positive."""
    positive: Fraction = 0.5
    """Minimum overlap of a positive anchor, or of an embedded box, with an object, 0 to 1. The
    published 0.7 leaves few for objects of 20 pixels."""
    negative: Fraction = 0.3
    """Maximum overlap of a negative anchor, or of an embedded background, 0 to 1."""

    @model_validator(mode="after")
    def _ascends(self) -> SampleSpec:
        if self.negative > self.positive:
            raise ValueError(
                f"negative must be at most positive; got {self.negative:g} and {self.positive:g}"
            )
        return self


class TrackerValidation(Spec):
    """Volumes that the network never trains on, by which the best checkpoint is chosen."""

    sources: Annotated[tuple[SourceSpec, ...], AfterValidator(not_empty)]
    """The held-out volumes."""
    every: Count = 250
    """Steps between two validations."""
    score: Fraction = 0.5
    """Minimum score of a detection that counts, 0 to 1."""


class TrackerTraining(Spec):
    """A whole training file of the tracker."""

    kind: Literal["tracker"]
    """Kind of this file: tracker."""
    out: Annotated[str, Field(min_length=1)]
    """Folder for checkpoints, log and pictures; training resumes from the state found there."""
    sources: Annotated[tuple[SourceSpec, ...], AfterValidator(not_empty)]
    """The volumes to train on, with labels."""
    validation: TrackerValidation
    """The held-out volumes, and how they are scored."""
    voxel_size_nm: Nanometres
    """Voxel size z y x of the network, nanometres; other sources are resampled to it."""
    network: DetectorSpec = DetectorSpec()
    """The network."""
    start_backbone: str | None = None
    """Safetensors file of public weights with torchvision's names; needs `norm: frozen`. Default:
    random weights."""
    normalisation: Normalisation = Normalisation()
    """Normalisation of intensities."""
    augmentation: Augmentation = Augmentation()
    """Random changes of crops."""
    samples: SampleSpec = SampleSpec()
    """Boxes that are trained on."""
    crop: tuple[Count, Count] = (128, 128)
    """Shape of a crop y x, voxels; a multiple of the network's coarsest stride."""
    scope: Count = 3
    """Maximum distance of two sections that are compared."""
    least_area: Count = 16
    """Minimum area of an object in a section, pixels."""
    batch: Count = 2
    """Pairs of sections per step."""
    steps: Count = 6000
    """Number of steps."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """`adamw`, or `sgd` with momentum 0.9, as published."""
    learning_rate: Positive = 1e-3
    """Maximum learning rate, above 0; published for sgd: 0.02."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    """Weight decay, at least 0."""
    warmup: Annotated[int, Field(ge=0)] = 100
    """Steps until the learning rate reaches its maximum; published: 1000."""
    decay: Fraction = 0.4
    """Fraction of the steps, at the end, over which the learning rate falls to zero, 0 to 1."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Decay of the moving average of the weights, which is validated and saved, 0 to 1; 0: the
    weights themselves."""
    seed: int = 0
    """Seed of weights and crops."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to train on; `auto`: cuda where there is one."""
    threads: Count = 1
    """Threads of torch on a CPU."""
    save_every: Count = 100
    """Steps between two states from which training can be resumed."""
    card: str = ""
    """File name of the model card to be stored next to the checkpoint."""

    @model_validator(mode="after")
    def _fits_together(self) -> TrackerTraining:
        stride = STRIDES[self.network.preset]
        if any(side % stride for side in self.crop):
            raise ValueError(
                f"crop must be a multiple of {stride}, the coarsest stride of the network; got "
                f"{list(self.crop)}"
            )
        for source in (*self.sources, *self.validation.sources):
            if not source.has_labels:
                raise ValueError(
                    f"source '{source.title}': expected labels, of which boxes are made"
                )
        titles = [source.title for source in self.validation.sources]
        if len(set(titles)) < len(titles):
            raise ValueError("sources of a validation need names that differ: name: NAME")
        if self.start_backbone is not None and self.network.norm != "frozen":
            raise ValueError("start_backbone: public weights need `network.norm: frozen`")
        return self

    def rate(self, step: int) -> float:
        """The learning rate of a step: linear warm-up, constant, linear decay to zero."""
        rising = (step + 1) / max(1, self.warmup)
        falling = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.learning_rate * min(1.0, rising, falling)


def load_tracker(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> TrackerTraining:
    """Read a training file, with `dotted.key=value` overrides in place of the file's values.

    Relative paths start at the current working directory.

    Raises
    ------
    PlanError
        With all problems, each with its line.
    """
    training, _ = load_file(path, TrackerTraining, overrides)
    validation, start = training.validation, training.start_backbone
    held_out = tuple(source.with_absolute_paths() for source in validation.sources)
    return training.model_copy(
        update={
            "out": absolute(training.out),
            "sources": tuple(source.with_absolute_paths() for source in training.sources),
            "validation": validation.model_copy(update={"sources": held_out}),
            "start_backbone": None if start is None else absolute(start),
        }
    )
