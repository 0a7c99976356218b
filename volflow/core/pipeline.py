"""The pipeline file: volumes, steps, and where the run is written."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from volflow.core.geometry import Triple

Side = Annotated[int, Field(ge=1)]
BlockShape = tuple[Side, Side, Side]
Nanometres = Annotated[float, Field(gt=0)]


class Spec(BaseModel):
    """A part of the pipeline file: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class VolumeSpec(Spec):
    """A volume: where it is, what its numbers mean, and how it is written if volflow writes it."""

    path: str
    resolution: tuple[Nanometres, Nanometres, Nanometres] | None = None
    """Nanometres per voxel, z y x, where the format does not tell."""
    offset: Triple | None = None
    """Voxel coordinate of the first voxel, where the format does not tell."""
    level: Annotated[int, Field(ge=0)] = 0
    """Which scale of a volume with several is read."""
    channels: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    """Which stored channels are read, in which order; for affinities z, y, x."""
    offset_sign: Literal[-1, 1] = -1
    """Affinities: -1 if entry v joins v with the voxel before it, 1 with the one after it."""
    scale: float | None = None
    """Values are multiplied by this, rounded and clipped to uint8 (255 for affinities in 0..1)."""
    boundary: bool = False
    """One channel of boundary probability, from which affinities are made."""
    version: str | int | None = None
    """Raise it to say that the voxels of a foreign volume changed."""
    chunk: BlockShape | None = None
    """Chunk of a volume that volflow writes; default: from its writer's block."""
    shard: BlockShape | None = None
    """Voxels of a shard (precomputed, zarr3); default: not sharded."""
    encoding: str | None = None
    """precomputed: raw, compressed_segmentation, jpeg; zarr and n5: raw, gzip, zstd, blosc."""


class StepSpec(Spec):
    """A step: a stage, its parameters and what it is wired to."""

    use: str
    name: str = ""
    """Default: the name of its stage."""
    with_: dict[str, Any] = Field(default_factory=dict, alias="with")
    in_: dict[str, str] = Field(default_factory=dict, alias="in")
    """Volume for each input; default: the volume of the input's own name."""
    out: dict[str, str] = Field(default_factory=dict)
    """Volume for each output; default: the volume of the output's own name."""
    block: BlockShape | None = None
    pool: str | None = None
    attempts: Annotated[int, Field(ge=1, le=10)] = 1


class Pipeline(Spec):
    """A whole pipeline file."""

    run: str
    """Folder or address that everything is written under."""
    volumes: dict[str, VolumeSpec]
    steps: tuple[StepSpec, ...]
    block: BlockShape = (64, 64, 64)
    bounds: str | None = None
    """z0:z1,y0:y1,x0:x1 in voxels; default: those of the first input."""
    resolution: tuple[Nanometres, Nanometres, Nanometres] | None = None
    """Nanometres per voxel, z y x; default: that of the first input."""
    mask: str | None = None
    """Volume (also a coarser one) that is zero where nothing is to be done."""
    bad_sections: tuple[int, ...] = ()
    """z of sections treated as masked."""
