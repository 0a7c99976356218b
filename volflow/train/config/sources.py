"""The volumes of a training file: addresses, and the truth that belongs to them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, model_validator

from volflow.checkpoints.header import Fraction, Nanometres
from volflow.config.pipeline import VolumeSpec, absolute
from volflow.config.spec import Name, Spec
from volflow.core.geometry import Box

DATA = "$VOLFLOW_DATA/"
"""Beginning of a path in the folder of training data that the environment variable names."""

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Axes = Annotated[str, Field(pattern=r"^z?y?x?$")]
Share = Annotated[float, Field(ge=0, le=0.5)]


T = TypeVar("T")


def not_empty(items: tuple[T, ...]) -> tuple[T, ...]:
    """The items, if there are any.

    Not `min_length` of pydantic: that would also complain where an item is invalid.
    """
    if not items:
        raise ValueError("expected at least one")
    return items


class MaskSpec(VolumeSpec):
    """A volume whose voxels belong to a mask where they are not zero."""

    values: tuple[int, ...] | None = None
    """Stored values that belong to the mask, where one volume holds several classes; default: all
    but 0, each value being an object of its own."""


class Synthetic(Spec):
    """A synthetic volume, made when training starts; see `synth.Neuropil`.

    It has the masks `mitochondria`, with `synapses` also `cleft`, `pre` and `post`, and with
    `nucleus` also `nuclei`.
    """

    bounds: str
    """z0:z1,y0:y1,x0:x1 in voxels."""
    seed: int = 0
    """Seed of the volume; another seed makes another volume."""
    cell: Count = 14
    """Mean width of a neurite, voxels."""
    noise: Annotated[float, Field(ge=0)] = 14.0
    """Standard deviation of the noise, grey values from 0 to 255."""
    synapses: bool = False
    """Whether the volume has synapses."""
    section_noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of the brightness of sections, grey values from 0 to 255."""
    drift: Annotated[int, Field(ge=0)] = 0
    """Maximum shift of the image of a section along y and x, voxels; the truth is not shifted."""
    missing: Share = 0.0
    """Fraction of sections that are black, 0 to 0.5."""
    repeated: Share = 0.0
    """Fraction of sections that repeat the one before, 0 to 0.5."""
    nucleus: Annotated[int, Field(ge=0)] = 0
    """Radius of nuclei, voxels; 0: no cell bodies."""
    every: Count = 1
    """Keep every n-th section, so that voxels are n times as long along z."""

    @property
    def masks(self) -> tuple[str, ...]:
        """The masks that the volume has."""
        synapses = ("cleft", "pre", "post") if self.synapses else ()
        return ("mitochondria", *synapses, *(("nuclei",) if self.nucleus else ()))


class ImageSource(Spec):
    """An image to train on: stored, or synthetic."""

    image: VolumeSpec | None = None
    """The image, uint8 or uint16, without channels. `$VOLFLOW_DATA/` in an address is the folder
    that the environment variable names."""
    synthetic: Synthetic | None = None
    """A synthetic volume instead of stored ones."""
    bounds: str | None = None
    """The part that is used, z0:z1,y0:y1,x0:x1 in voxels as stored; default: all."""
    voxel_size_nm: Nanometres | None = None
    """Voxel size z y x as stored, nanometres, where the image gives none or a wrong one. Default
    for a synthetic volume: the training's."""
    sections: tuple[Count, Count] = (1, 1)
    """Crops have every n-th section, n drawn from this range for each crop, as far as the volume
    is deep enough; [1, 1]: all sections. Simulates thicker sections."""
    weight: Positive = 1.0
    """Relative frequency of crops from this source, above 0."""
    resample: Axes = "zyx"
    """Axes along which the source is resampled to the training's voxel size, if the two differ by
    more than a tenth."""

    def with_absolute_paths(self) -> Self:
        """The same source with absolute paths, and `$VOLFLOW_DATA` in them replaced."""
        if self.image is None:
            return self
        return self.model_copy(update={"image": _absolute(self.image)})

    @model_validator(mode="after")
    def _has_valid_ranges(self) -> Self:
        if self.sections[0] > self.sections[1]:
            raise ValueError(f"sections must ascend, as [1, 3]; got {list(self.sections)}")
        _require_stored_voxels({"image": self.image})
        for bounds in (self.bounds, self.synthetic.bounds if self.synthetic else None):
            if bounds is not None:
                Box.parse(bounds)
        return self


class SourceSpec(ImageSource):
    """A volume to train on with its truth: stored, or synthetic."""

    name: Name | None = None
    """Name in the validation log; default: the name of the image's file."""
    labels: VolumeSpec | None = None
    """Labels of objects, integers, over at least the same voxels as the image."""
    masks: dict[Name, MaskSpec] = Field(default_factory=dict)
    """Masks by name, such as mitochondria. A mask that is not listed is unknown in this source."""
    known: MaskSpec | None = None
    """A volume that is not zero where the masks are known; default: everywhere."""
    zero: Literal["unknown", "background"] = "unknown"
    """Meaning of label 0: `unknown`, a voxel without annotation, or `background`, a voxel that
    belongs to no object."""
    flat: bool = False
    """Whether labels hold within each section only, so that affinities along z are unknown."""
    eroded: Annotated[int, Field(ge=0)] = 0
    """Voxels removed from the border of every object within a section, so that membranes are as
    wide as in other sources; they become label 0."""
    rare: Fraction = 0.0
    """Fraction of crops that contain a voxel of a mask, 0 to 1; for rare objects."""

    @model_validator(mode="after")
    def _has_truth(self) -> SourceSpec:
        truth = self.labels is not None or bool(self.masks)
        volumes = self.image is not None or truth or self.known is not None
        stored = self.image is not None and (truth or self.known is not None)
        if volumes == (self.synthetic is not None) or volumes != stored:
            raise ValueError("expected either image and labels, or image and masks, or synthetic")
        if self.known is not None and not self.masks:
            raise ValueError("known marks where masks are known; expected masks as well")
        _require_stored_voxels({"labels": self.labels, "known": self.known, **self.masks})
        return self

    @property
    def known_masks(self) -> tuple[str, ...]:
        """The names of the masks that the source has."""
        return self.synthetic.masks if self.synthetic is not None else tuple(self.masks)

    @property
    def has_labels(self) -> bool:
        """Whether the source has labels of objects."""
        return self.synthetic is not None or self.labels is not None

    @property
    def title(self) -> str:
        """The name of the source, or one made of its file's name."""
        if self.name is not None:
            return self.name
        if self.image is None:
            return "synthetic"
        path = self.image.path.partition("://")[2] or self.image.path
        return PurePosixPath(path.partition("?")[0]).stem

    def with_absolute_paths(self) -> Self:
        """The same source with absolute paths, and `$VOLFLOW_DATA` in them replaced."""
        volumes = {"image": self.image, "labels": self.labels, "known": self.known}
        changed = {name: _absolute(spec) for name, spec in volumes.items() if spec is not None}
        masks = {name: _absolute(spec) for name, spec in self.masks.items()}
        return self.model_copy(update={**changed, "masks": masks})


def _require_stored_voxels(volumes: Mapping[str, VolumeSpec | None]) -> None:
    for name, spec in volumes.items():
        if spec is not None and spec.downsample is not None:
            raise ValueError(
                f"{name}: downsample is for the images of pipelines; a source is resampled to the "
                f"training's voxel size along the axes of `resample`"
            )


def _absolute(spec: VolumeSpec) -> VolumeSpec:
    """A volume with an absolute path; `$VOLFLOW_DATA` stays where the variable is not set."""
    path = spec.path
    if DATA in path:
        folder = os.environ.get("VOLFLOW_DATA")
        if not folder:
            return spec
        path = path.replace(DATA, f"{folder.rstrip('/')}/", 1)
    return spec.model_copy(update={"path": absolute(path)})
