"""The training file: read and checked, with all its problems in one error."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from volflow.checkpoints.find import bundled_networks
from volflow.checkpoints.header import Fraction, Nanometres, Normalisation, Sides
from volflow.config.checked_file import load_file
from volflow.config.pipeline import absolute
from volflow.config.problems import closest
from volflow.config.spec import Spec
from volflow.core.geometry import Triple
from volflow.train.config.heads import Descriptors, Foreground, MaskHead, Mixing, Tiles
from volflow.train.config.network import NetworkSpec
from volflow.train.config.sources import Count, Positive, SourceSpec, not_empty
from volflow.train.data.augment import Augmentation

NEAREST: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
CONTOUR = ".contour"  # suffix of a channel that is the border of a mask's objects
RESERVED = ("affinity", "lsd", "foreground")  # names of heads that are not masks


class Validation(Spec):
    """Voxels that the network never trains on, by which the best checkpoint is chosen."""

    source: SourceSpec | None = None
    """The held-out volume."""
    sources: tuple[SourceSpec, ...] = ()
    """Several held-out volumes instead of `source`. The best checkpoint has the lowest mean of all
    their scores."""
    every: Count = 250
    """Steps between two validations."""
    thresholds: tuple[Fraction, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    """Thresholds of the agglomeration, 0 to 1; the best one counts."""
    min_size: Annotated[int, Field(ge=0)] = 1000
    """Minimum size of segments in the agglomeration, voxels."""
    flat_min_size: Annotated[int, Field(ge=0)] = 100
    """Minimum size of segments in a single section where labels are flat, voxels."""
    mask_thresholds: tuple[Fraction, ...] = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    """Thresholds of masks and foreground, 0 to 1; the best one counts."""

    @model_validator(mode="after")
    def _has_sources(self) -> Validation:
        if (self.source is None) == (not self.sources):
            raise ValueError("expected either source or sources")
        if len({source.title for source in self.held_out}) < len(self.sources):
            raise ValueError("sources of a validation need names that differ: name: NAME")
        return self

    @property
    def held_out(self) -> tuple[SourceSpec, ...]:
        """The sources, from `source` or `sources`."""
        return self.sources if self.source is None else (self.source,)


class Training(Spec):
    """A whole training file."""

    RENAMED: ClassVar[dict[str, str]] = {
        "frozen": "freeze_norm_fraction",
        "sharp": "unaugmented_fraction",
    }

    out: Annotated[str, Field(min_length=1)]
    """Folder for checkpoints, log and pictures; training resumes from the state found there."""
    sources: Annotated[tuple[SourceSpec, ...], AfterValidator(not_empty)]
    """The volumes to train on."""
    validation: Validation
    """The held-out volumes, and how they are scored."""
    voxel_size_nm: Nanometres
    """Voxel size z y x of the network, nanometres; other sources are resampled to it."""
    offsets: tuple[Triple, ...] = NEAREST
    """Offsets z y x of the affinities to predict, voxels; the first three should be the previous
    neighbours. []: no affinities, where something else is trained."""
    long_range_weight: Positive = 0.5
    """Weight in the loss of all affinities but the first three, above 0."""
    descriptors: Descriptors | None = None
    """Local shape descriptors, as a head `lsd`; default: none."""
    foreground: Foreground | None = None
    """The voxels of all objects, as a head `foreground`; default: none."""
    masks: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], MaskHead] = Field(
        default_factory=dict
    )
    """Further heads by name, each of one or more masks."""
    start: str | None = None
    """Checkpoint, or name of a bundled network, with the initial weights; heads and channels that
    it does not have start with random ones. Default: random weights."""
    start_encoder: str | None = None
    """Encoder written by `volflow pretrain`, `encoder.safetensors`, with which the network starts;
    the rest has random weights. Default: none."""
    network: NetworkSpec = NetworkSpec()
    """Kind and shape of the network."""
    tiles: Tiles = Tiles()
    """Tiles in which the trained network is applied to a volume."""
    normalisation: Normalisation = Normalisation()
    """Normalisation of intensities."""
    augmentation: Augmentation = Augmentation()
    """Random changes of crops."""
    mixing: Mixing = Mixing()
    """Mixing of crops of several sources."""
    crop: Sides = (64, 64, 64)
    """Shape of a crop z y x, voxels; a multiple of the network's stride."""
    batch: Count = 1
    """Crops per step."""
    steps: Count = 4000
    """Number of steps."""
    learning_rate: Positive = 1e-3
    """Maximum learning rate, above 0."""
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    """Weight decay of AdamW, at least 0."""
    warmup: Annotated[int, Field(ge=0)] = 100
    """Steps until the learning rate reaches its maximum."""
    decay: Fraction = 0.3
    """Fraction of the steps, at the end, over which the learning rate falls to zero, 0 to 1."""
    freeze_norm_fraction: Fraction = 0.4
    """Fraction of the steps, at the end, in which batch normalisation uses its running statistics,
    as it does in prediction, 0 to 1."""
    unaugmented_fraction: Fraction = 0.0
    """Fraction of the steps, at the end, whose crops show every voxel as it was imaged (no
    rotation, scaling, deformation, blur, noise or shifted sections), 0 to 1."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Decay of the moving average of the weights, which is validated and saved, 0 to 1; 0: the
    weights themselves."""
    seed: int = 0
    """Seed of weights and crops."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Precision of the forward pass: `bf16` (mixed) or `fp32`."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device to train on; `auto`: cuda where there is one."""
    threads: Count = 1
    """Threads of torch on a CPU. Where other programs use the same cores, one is by far the
    fastest."""
    save_every: Count = 100
    """Steps between two states from which training can be resumed."""
    card: str = ""
    """File name of the model card to be stored next to the checkpoint."""

    def augmentation_at(self, step: int) -> Augmentation:
        """The augmentation of the crops of a step."""
        last = step >= (1 - self.unaugmented_fraction) * self.steps
        return self.augmentation.undistorted() if last else self.augmentation

    @model_validator(mode="after")
    def _fits_together(self) -> Training:
        wrong = "; ".join([*_untrainable(self), *_unfit_tiles(self)])
        if wrong:
            raise ValueError(wrong)
        return self


def _untrainable(training: Training) -> Iterator[str]:
    """Heads that cannot be trained because no source has their truth."""
    sources = training.sources
    if not (training.offsets or training.descriptors or training.foreground or training.masks):
        yield "nothing to train: expected offsets, descriptors, foreground or masks"
        return
    if (training.offsets or training.descriptors) and not any(s.has_labels for s in sources):
        yield "affinities and descriptors are trained on labels; no source has any"
    if training.foreground and not any(s.has_labels and s.zero == "background" for s in sources):
        yield "foreground is trained on labels with zero: background; no source has any such"
    if training.start is not None and training.start_encoder is not None:
        yield "start and start_encoder: expected only one of them"
    known = sorted({mask for source in sources for mask in source.known_masks})
    for head, masks in training.masks.items():
        if head in RESERVED:
            yield f"masks.{head}: a head of masks cannot be called {' or '.join(RESERVED)}"
        for channel in masks.channels:
            mask = channel.removesuffix(CONTOUR)
            if mask not in known:
                yield (
                    f"masks.{head}: no source has a mask '{mask}'{closest(mask, known)} (known: "
                    f"{', '.join(known) or 'none'}; '.contour' of one is its border)"
                )


def _unfit_tiles(training: Training) -> Iterator[str]:
    """Crops and tiles that are not multiples of the network's stride, or too small."""
    tiles = training.tiles
    for axis, name in enumerate("zyx"):
        stride = training.network.stride[axis]
        for key, side in (
            ("crop", training.crop[axis]),
            ("tiles.input_tile", tiles.input_tile[axis]),
            ("tiles.halo", tiles.halo[axis]),
        ):
            if side % stride:
                yield (
                    f"{key} must be a multiple of {stride} along {name}, the stride of the "
                    f"network; got {side}"
                )
        if tiles.input_tile[axis] <= 2 * tiles.halo[axis]:
            yield (
                f"tiles.halo leaves nothing of tiles.input_tile along {name}; expected less than "
                f"{tiles.input_tile[axis] / 2:g}, got {tiles.halo[axis]}"
            )


def load(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Training:
    """Read a training file, with `dotted.key=value` overrides in place of the file's values.

    Relative paths start at the current working directory.

    Raises
    ------
    PlanError
        With all problems, each with its line.
    """
    training, _ = load_file(path, Training, overrides)
    return _with_absolute_paths(training)


def _with_absolute_paths(training: Training) -> Training:
    validation, start, encoder = training.validation, training.start, training.start_encoder
    if start is not None and start not in bundled_networks():
        start = absolute(start)
    held_out = {
        "source": validation.source and validation.source.with_absolute_paths(),
        "sources": tuple(source.with_absolute_paths() for source in validation.sources),
    }
    return training.model_copy(
        update={
            "out": absolute(training.out),
            "start": start,
            "start_encoder": None if encoder is None else absolute(encoder),
            "sources": tuple(source.with_absolute_paths() for source in training.sources),
            "validation": validation.model_copy(update=held_out),
        }
    )
