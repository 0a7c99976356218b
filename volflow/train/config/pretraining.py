"""The pretraining file: images without labels, how they are hidden, how long it takes."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from volflow.checkpoints.header import Nanometres, Normalisation, Sides
from volflow.config.file import read_yaml
from volflow.config.overrides import Overridden, apply
from volflow.config.pipeline import VolumeSpec, absolute
from volflow.config.problems import KeyPath, Problems, Where, keys_of
from volflow.core.geometry import Box, Triple
from volflow.errors import PlanError
from volflow.train.config.sources import Count, Part, Positive, Synthetic
from volflow.train.data.masking import CELL, DEPTHS, SIDES


class ImageSpec(Part):
    """A volume that is only looked at: stored, or synthetic."""

    image: VolumeSpec | None = None
    """uint8 or uint16."""
    synthetic: Synthetic | None = None
    """Instead of image."""
    bounds: str | None = None
    """z0:z1,y0:y1,x0:x1 of the part that is used, in voxels as stored; default: all."""
    voxel_size_nm: Nanometres | None = None
    """As stored, z y x, where the image does not say it or says it wrongly; of a synthetic volume,
    default: the pretraining's."""
    resample: Annotated[str, Field(pattern=r"^z?y?x?$")] = "yx"
    """Axes along which it is brought to the pretraining's voxel size, if it differs by more than a
    tenth."""
    sections: tuple[Count, Count] = (1, 1)
    """Of each crop every n-th section is shown, n drawn from this range, as far as the volume is
    deep enough: for thin sections."""
    weight: Positive = 1.0
    """How often crops come from here, relative to the other sources."""

    @model_validator(mode="after")
    def _is_one_of_both(self) -> ImageSpec:
        if (self.image is None) == (self.synthetic is None):
            raise ValueError("expected either image or synthetic")
        if self.sections[0] > self.sections[1]:
            raise ValueError(f"sections ascend, as [1, 3]; got {list(self.sections)}")
        made = None if self.synthetic is None else self.synthetic.bounds
        for bounds in (self.bounds, made):
            if bounds is not None:
                Box.parse(bounds)
        return self

    def placed(self) -> ImageSpec:
        """The same, with its path made absolute."""
        if self.image is None:
            return self
        image = self.image.model_copy(update={"path": absolute(self.image.path)})
        return self.model_copy(update={"image": image})


class EncoderSpec(Part):
    """The network whose encoder is expected; see `models.mnet`."""

    kind: Literal["mnet"] = "mnet"
    widths: tuple[Count, Count, Count, Count, Count] = (32, 64, 96, 128, 256)
    """Channels of each level, finest first."""
    normalisation: Literal["instance", "batch"] = "instance"
    """By the tile, as published, or by constants; as in the training that follows."""


class HeldOut(Part):
    """Voxels that are not learnt from, on which the best encoder is chosen."""

    source: ImageSpec
    every: Count = 500
    """Steps."""
    crops: Count = 4
    """How many are looked at, the same ones each time."""


def _some(given: tuple[ImageSpec, ...]) -> tuple[ImageSpec, ...]:
    if not given:
        raise ValueError("expected at least one")
    return given


class Pretraining(Part):
    """A whole pretraining file; numbers as of SegNeuron where they can be."""

    out: Annotated[str, Field(min_length=1)]
    """Folder for the encoder, log and pictures; a pretraining that lies there is gone on with."""
    sources: Annotated[tuple[ImageSpec, ...], AfterValidator(_some)]
    """What is looked at."""
    validation: HeldOut
    voxel_size_nm: Nanometres
    """That sources are brought to, z y x."""
    network: EncoderSpec = EncoderSpec()
    normalisation: Normalisation = Normalisation()
    """As in the training that follows."""
    crop: Sides = (20, 128, 128)
    """Voxels of a crop; a source that is smaller is continued by its mirror image."""
    batch: Count = 8
    """Crops of a step."""
    steps: Count = 400_000
    learning_rate: Positive = 1e-2
    """At the first step."""
    least_learning_rate: Positive = 1e-4
    """After `falling` steps."""
    falling: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Part of the steps over which the learning rate falls."""
    image_weight: Annotated[float, Field(ge=0)] = 0.2
    """Of the image's squared error in the loss, beside 1 of its edges'."""
    seed: int = 0
    precision: Literal["bf16", "fp32"] = "bf16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = 1
    """Of torch."""
    save_every: Count = 100
    """Steps between states that it can be resumed from."""

    @model_validator(mode="after")
    def _fits_together(self) -> Pretraining:
        stride = 2 ** (len(self.network.widths) - 1)
        if any(side % stride for side in self.crop[1:]):
            raise ValueError(
                f"crop must be a multiple of {stride} along y and x, which is how much the network "
                f"pools there; got {list(self.crop)}"
            )
        if all(self.crop[0] % depth for depth in DEPTHS):
            raise ValueError(
                f"crop must hold whole cells along z, of {DEPTHS} sections; got {self.crop[0]}"
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


def smallest(crop: Triple) -> Triple:
    """The least sides of a volume that its mirror image continues to a crop."""
    z, y, x = (side // 2 + 1 for side in crop)
    return z, y, x


def load_pretraining(path: str | os.PathLike[str], overrides: tuple[str, ...] = ()) -> Pretraining:
    """Read a pretraining file, with `dotted.key=value` overrides put in place of what it says.

    Relative paths start at the current working directory.

    Raises
    ------
    PlanError
        With all mistakes, each with its line.
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{path}: cannot be read: {error}") from error
    found = read_yaml(text)
    problems = Problems(Where(os.fspath(path), found.lines))
    for place, line, problem in found.problems:
        problems.add(place, problem, line)
    if not isinstance(found.data, dict):
        problems.add((), "expected keys and values (out, sources, validation)", 1)
        raise PlanError(*problems.found)
    target = Overridden(found.data, found.lines)
    apply(target, overrides, {"": keys_of(Pretraining)}, problems)
    problems.where = Where(os.fspath(path), target.lines, target.options)
    try:
        made = Pretraining.model_validate(target.data)
    except ValidationError as error:
        problems.add_validation(error, target.data, _keys_at)
    if problems:
        raise PlanError(*problems.found)
    held_out = made.validation.model_copy(update={"source": made.validation.source.placed()})
    return made.model_copy(
        update={
            "out": absolute(made.out),
            "sources": tuple(source.placed() for source in made.sources),
            "validation": held_out,
        }
    )


def _keys_at(path: KeyPath) -> list[str]:
    """The keys that a mapping at this path may have."""
    names: dict[str, type[BaseModel]] = {
        "sources": ImageSpec, "source": ImageSpec, "validation": HeldOut, "image": VolumeSpec,
        "network": EncoderSpec, "normalisation": Normalisation, "synthetic": Synthetic,
    }  # fmt: skip
    model: type[BaseModel] = Pretraining
    for part in path:
        if isinstance(part, str):
            model = names.get(part, model)
    return keys_of(model)
