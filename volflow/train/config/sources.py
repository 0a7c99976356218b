"""What a training file says of its volumes: where they are, and what is known of their voxels."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from volflow.checkpoints.header import Fraction, Nanometres
from volflow.config.pipeline import Name, VolumeSpec, absolute
from volflow.core.geometry import Box

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=0.5)]


class Part(BaseModel):
    """A part of the training file: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class MaskSpec(VolumeSpec):
    """A volume of which it matters where it is not zero."""

    values: tuple[int, ...] | None = None
    """Stored numbers that count, where one volume holds several classes; default: all but 0,
    different ones being different objects."""


class Synthetic(Part):
    """A synthetic volume, made when training starts; see `synth.Neuropil`.

    It knows the masks `mitochondria`, with `synapses` also `cleft`, `pre` and `post`, and with
    `nucleus` also `nuclei`.
    """

    bounds: str
    """z0:z1,y0:y1,x0:x1 in voxels."""
    seed: int = 0
    """Another seed is another volume."""
    cell: Count = 14
    """Voxels: how wide a neurite is."""
    noise: Annotated[float, Field(ge=0)] = 14.0
    """Grey values."""
    synapses: bool = False
    """Whether there are synapses."""
    section_noise: Annotated[float, Field(ge=0)] = 0.0
    """Standard deviation of the sections' brightness, grey values."""
    drift: Annotated[int, Field(ge=0)] = 0
    """How far sections may be shifted along y and x, voxels; the truth stays."""
    missing: Share = 0.0
    """Share of sections that are black."""
    repeated: Share = 0.0
    """Share of sections that show the one before."""
    nucleus: Annotated[int, Field(ge=0)] = 0
    """Radius of nuclei, voxels; 0: no cell bodies."""
    every: Count = 1
    """One section in how many is kept: voxels are that much longer along z."""

    @property
    def masks(self) -> tuple[str, ...]:
        """The masks that are known of it."""
        synapses = ("cleft", "pre", "post") if self.synapses else ()
        return ("mitochondria", *synapses, *(("nuclei",) if self.nucleus else ()))


class SourceSpec(Part):
    """A volume and what is known of it: stored, or synthetic."""

    name: Name | None = None
    """In the log of validations; default: of its file."""
    image: VolumeSpec | None = None
    """uint8 or uint16."""
    labels: VolumeSpec | None = None
    """Objects, over at least the same voxels."""
    masks: dict[Name, MaskSpec] = Field(default_factory=dict)
    """What else is known of every voxel, by name. A mask that is not here is unknown here."""
    known: MaskSpec | None = None
    """Where the masks are known; default: everywhere."""
    synthetic: Synthetic | None = None
    """Instead of image, labels and masks."""
    bounds: str | None = None
    """z0:z1,y0:y1,x0:x1 of the part that is used, in voxels as stored; default: all."""
    zero: Literal["unknown", "background"] = "unknown"
    """What label 0 is: a voxel nobody labelled, or one that is part of nothing."""
    flat: bool = False
    """Labels are of each section alone; whether neighbours along z belong together is unknown."""
    eroded: Annotated[int, Field(ge=0)] = 0
    """Voxels within a section taken from every object's border, so that membranes are as wide as
    in other sources; they become label 0."""
    voxel_size_nm: Nanometres | None = None
    """As stored, z y x, where the image does not say it or says it wrongly; of a synthetic volume,
    default: the training's."""
    resample: Annotated[str, Field(pattern=r"^z?y?x?$")] = "zyx"
    """Axes along which it is brought to the training's voxel size, if it differs by more than a
    tenth."""
    sections: tuple[Count, Count] = (1, 1)
    """Of each crop every n-th section is shown, n drawn from this range: for thin sections."""
    rare: Fraction = 0.0
    """Share of crops that are laid around a voxel of a mask."""
    weight: Positive = 1.0
    """How often crops come from here, relative to the other sources."""

    @model_validator(mode="after")
    def _is_one_of_both(self) -> SourceSpec:
        known = self.labels is not None or bool(self.masks)
        volumes = self.image is not None or known or self.known is not None
        stored = self.image is not None and (known or self.known is not None)
        if volumes == (self.synthetic is not None) or volumes != stored:
            raise ValueError("expected either image and labels, or image and masks, or synthetic")
        if self.known is not None and not self.masks:
            raise ValueError("known says where masks are known; there are no masks")
        if self.sections[0] > self.sections[1]:
            raise ValueError(f"sections ascend, as [1, 3]; got {list(self.sections)}")
        for bounds in (self.bounds, self.synthetic.bounds if self.synthetic else None):
            if bounds is not None:
                Box.parse(bounds)
        return self

    @property
    def known_masks(self) -> tuple[str, ...]:
        """The masks about which it says something."""
        return self.synthetic.masks if self.synthetic is not None else tuple(self.masks)

    @property
    def has_labels(self) -> bool:
        """Whether it says which voxels belong together."""
        return self.synthetic is not None or self.labels is not None

    @property
    def title(self) -> str:
        """Its name, or one made of its file's."""
        if self.name is not None:
            return self.name
        if self.image is None:
            return "synthetic"
        path = self.image.path.partition("://")[2] or self.image.path
        return PurePosixPath(path.partition("?")[0]).stem

    def placed(self) -> SourceSpec:
        """The same, with paths made absolute."""

        def at(spec: VolumeSpec) -> VolumeSpec:
            return spec.model_copy(update={"path": absolute(spec.path)})

        volumes = {"image": self.image, "labels": self.labels, "known": self.known}
        changed = {name: at(spec) for name, spec in volumes.items() if spec is not None}
        masks = {name: at(spec) for name, spec in self.masks.items()}
        return self.model_copy(update={**changed, "masks": masks})
