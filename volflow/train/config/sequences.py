"""The training file of the few-shot segmenter, which follows objects from section to section."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from volflow.checkpoints.header import Fraction, Nanometres, Normalisation
from volflow.config.checked_file import load_file
from volflow.config.pipeline import absolute
from volflow.config.spec import Name, Spec
from volflow.train.config.sources import Count, Positive, SourceSpec, not_empty

Amount = Annotated[float, Field(ge=0)]
Offline = Literal["d", "m", "syn"]
"""Layers of offline networks: affinities, mitochondria, synaptic clefts."""


class SequenceSource(SourceSpec):
    """A volume with labels of objects, and the networks that predict its offline layers."""

    offline: dict[Offline, Name] = Field(default_factory=dict)
    """Bundled network of each offline layer: d (affinities), m (mitochondria), syn (clefts). A
    synthetic source has its own layers. A layer that is not listed is absent."""

    @model_validator(mode="after")
    def _has_objects(self) -> SequenceSource:
        if not self.has_labels:
            raise ValueError("objects are followed in labels; expected labels, or synthetic")
        if self.flat:
            raise ValueError("objects are followed across sections; expected labels in 3D, no flat")
        return self


class FollowerSpec(Spec):
    """The network; see `models.iicats.network`."""

    trunk: Literal["light", "resnet50"] = "light"
    """Trunk: `light`, or `resnet50`, as in the paper (with encoding 32 and features 512)."""
    encoding: Count = 16
    """Channels of encodings and of filter responses."""
    features: Count = 64
    """Channels of the features that filters are applied to."""
    last_masks: Annotated[int, Field(ge=0, le=2)] = 2
    """Number of previous masks that the decoder reads, 0 to 2; 0: none, as in the paper."""
    affinity_input: bool = True
    """Whether the encoder reads affinities next to the image; false: the image alone, as in the
    paper."""
    limit: Positive | None = None
    """Largest value of the encodings that filters are fitted to; default: none, as in the paper."""
    few_shot: bool = True
    """Whether filters are fitted to earlier masks and to offline layers."""


class SequenceShape(Spec):
    """Sections and objects of a training sequence."""

    sections: tuple[Count, Count] = (4, 7)
    """Minimum and maximum number of sections."""
    gap: Annotated[int, Field(ge=0)] = 2
    """Maximum number of sections left out between two of a sequence."""
    gap_probability: Fraction = 0.15
    """Probability that sections are left out between two, 0 to 1."""
    objects: Count = 6
    """Number of objects."""
    sides: Annotated[
        tuple[Annotated[int, Field(multiple_of=32, ge=32)], ...], AfterValidator(not_empty)
    ] = (64, 96)
    """Sides of crops, pixels, multiples of 32; one is drawn for each sequence."""
    least_area: Count = 20
    """Minimum area of an object in the first section, pixels."""


class Damage(Spec):
    """Random changes of a sequence."""

    drop: Fraction = 0.2
    """Probability that an offline layer is dropped from a sequence, 0 to 1."""
    drop_masks: Fraction = 0.1
    """Probability that previous masks are dropped from the decoder's input, 0 to 1."""
    drop_input: Fraction = 0.7
    """Probability that, where previous masks are dropped, affinities are dropped from the encoder's
    input as well, so that the network sees what the paper's sees, 0 to 1."""
    drop_filters: Fraction = 0.15
    """Probability that the filters of an object's own masks are dropped, 0 to 1."""
    offline_noise: Amount = 0.08
    """Maximum standard deviation of smooth noise of offline layers, in probability."""
    misaligned: Fraction = 0.1
    """Probability that a section and all after it are shifted, 0 to 1."""
    shift: Annotated[int, Field(ge=0)] = 4
    """Maximum shift, pixels."""
    contrast: Amount = 0.2
    """Contrast of the sequence: a factor from 1 / (1 + contrast) to 1 + contrast."""
    brightness: Amount = 0.2
    """Maximum intensity added to the sequence; intensities span about -1 to 1."""
    section_contrast: Amount = 0.1
    """Standard deviation of contrast and brightness from section to section."""
    noise: Amount = 0.1
    """Maximum standard deviation of Gaussian noise, in intensity."""
    missing: Fraction = 0.02
    """Probability that a section is blank, 0 to 1."""
    mask_noise: Fraction = 0.3
    """Probability that the first masks are shifted, grown or shrunk by up to two pixels, 0 to 1."""


class FollowValidation(Spec):
    """Sections that the network never trains on, by which the best checkpoint is chosen."""

    sources: Annotated[tuple[SequenceSource, ...], AfterValidator(not_empty)]
    """The held-out volumes."""
    every: Count = 500
    """Steps between two validations."""
    after: tuple[Count, ...] = (1, 5, 10)
    """Numbers of sections after which masks are compared with the truth; their mean counts."""
    objects: Count = 24
    """Maximum number of objects of each source."""
    least_area: Count = 50
    """Minimum area of an object in the first section, pixels."""


class SequenceTraining(Spec):
    """A whole training file of the few-shot segmenter."""

    kind: Literal["iicats"]
    """Kind of network: iicats, the few-shot segmenter."""
    out: Annotated[str, Field(min_length=1)]
    """Folder for checkpoints, log and offline layers; training resumes from a state there."""
    sources: Annotated[tuple[SequenceSource, ...], AfterValidator(not_empty)]
    """The volumes to train on."""
    validation: FollowValidation
    """The held-out volumes, and how they are scored."""
    voxel_size_nm: Nanometres
    """Voxel size z y x that sources are resampled to along the axes that they name."""
    start: str | None = None
    """Checkpoint of such a training with the initial weights; default: random weights."""
    trained: Literal["sequences", "boxes"] = "sequences"
    """Part that is trained: `sequences`, all but the box extractor, on sequences, or `boxes`, the
    box extractor alone, on the first sections of sequences, with all else as in `start`."""
    network: FollowerSpec = FollowerSpec()
    """Shape of the network."""
    sequence: SequenceShape = SequenceShape()
    """Sections and objects of a sequence."""
    damage: Damage = Damage()
    """Random changes of sequences."""
    normalisation: Normalisation = Normalisation()
    """Normalisation of intensities."""
    steps: Count = 10000
    """Number of steps."""
    cross_entropy: Amount = 0.5
    """Weight of cross entropy, added to the Lovász loss, at least 0."""
    learning_rate: Positive = 1e-3
    """Maximum learning rate, above 0."""
    warmup: Annotated[int, Field(ge=0)] = 200
    """Steps until the learning rate reaches its maximum."""
    decay: Fraction = 0.4
    """Fraction of the steps, at the end, over which the learning rate falls to zero, 0 to 1."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Decay of the moving average of the weights, which is validated and saved, 0 to 1."""
    seed: int = 0
    """Seed of weights and sequences."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to train on; `auto`: cuda where there is one."""
    threads: Count = 1
    """Threads of torch on a CPU."""
    save_every: Count = 250
    """Steps between two states from which training can be resumed."""
    card: str = ""
    """File name of the model card to be stored next to the checkpoint."""

    def rate(self, step: int) -> float:
        """The learning rate of a step: linear warm-up, constant, linear decay to zero."""
        rising = (step + 1) / max(1, self.warmup)
        falling = (self.steps - step) / max(1.0, self.decay * self.steps)
        return self.learning_rate * min(1.0, rising, falling)

    @model_validator(mode="after")
    def _fits_together(self) -> SequenceTraining:
        low, high = self.sequence.sections
        if not 2 <= low <= high:
            raise ValueError(f"sequence.sections must ascend and be at least 2; got {[low, high]}")
        if not self.network.last_masks and not self.network.few_shot:
            raise ValueError("network: expected last_masks or few_shot; nothing marks the object")
        if self.trained == "boxes" and (self.start is None or not self.network.few_shot):
            raise ValueError("trained: boxes; expected start, and a network with few_shot")
        return self


def load_sequences(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> SequenceTraining:
    """Read a training file, with `dotted.key=value` overrides in place of the file's values.

    Relative paths start at the current working directory.

    Raises
    ------
    PlanError
        With all problems, each with its line.
    """
    training, _ = load_file(path, SequenceTraining, overrides)
    validation = training.validation
    held_out = tuple(source.with_absolute_paths() for source in validation.sources)
    return training.model_copy(
        update={
            "out": absolute(training.out),
            "start": None if training.start is None else absolute(training.start),
            "sources": tuple(source.with_absolute_paths() for source in training.sources),
            "validation": validation.model_copy(update={"sources": held_out}),
        }
    )
