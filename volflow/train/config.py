"""The training file: read, checked, and told with all its mistakes at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from volflow.core.geometry import Box, Triple
from volflow.core.header import Fraction, Nanometres, Normalisation, Reach, Sides
from volflow.core.mistakes import KeyPath, Mistakes, Where, keys_of
from volflow.core.network import shipped_networks
from volflow.core.overrides import Overridden, apply
from volflow.core.pipeline import VolumeSpec, absolute
from volflow.core.yaml_lines import read_yaml
from volflow.errors import PlanError
from volflow.train.augment import Augmentation

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]

NEAREST: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Synthetic(_Part):
    """A synthetic volume, made when training starts."""

    bounds: str
    """z0:z1,y0:y1,x0:x1 in voxels."""
    seed: int = 0
    """Another seed is another volume."""
    cell: Count = 14
    """Voxels: how wide a neurite is."""
    noise: Annotated[float, Field(ge=0)] = 14.0
    """Grey values."""


class SourceSpec(_Part):
    """A volume with truth: stored, or synthetic."""

    image: VolumeSpec | None = None
    """uint8 or uint16."""
    labels: VolumeSpec | None = None
    """Objects, over at least the same voxels."""
    synthetic: Synthetic | None = None
    """Instead of image and labels."""
    bounds: str | None = None
    """z0:z1,y0:y1,x0:x1 of the part that is used; default: all of the image."""
    zero: Literal["unknown", "background"] = "unknown"
    """What label 0 is: a voxel nobody labelled, or one that is part of nothing."""
    weight: Positive = 1.0
    """How often crops come from here, relative to the other sources."""

    @model_validator(mode="after")
    def _is_one_of_both(self) -> SourceSpec:
        stored = self.image is not None and self.labels is not None
        if stored == (self.synthetic is not None) or (self.image is None) != (self.labels is None):
            raise ValueError("wanted either image and labels, or synthetic")
        if self.bounds is not None:
            Box.parse(self.bounds)
        if self.synthetic is not None:
            Box.parse(self.synthetic.bounds)
        return self


class NetworkSpec(_Part):
    """The shape of the network; see `models.resunet3d`."""

    widths: tuple[Count, ...] = (16, 32, 64, 96)
    """Channels of each level, finest first."""
    pools: tuple[Sides, ...] = ((2, 2, 2), (2, 2, 2), (2, 2, 2))
    """Pooling from level to level."""
    depth: Count = 1
    """Convolutions inside a residual connection."""
    first_kernel: Sides = (3, 3, 3)
    """(1, 5, 5) for thick sections."""
    activation: Literal["relu", "elu"] = "relu"


class Descriptors(_Part):
    """Local shape descriptors, learnt beside affinities; see `segment.descriptors`."""

    sigma_nm: Positive = 80.0
    """Standard deviation of the window."""
    weight: Positive = 5.0
    """Of their squared error in the loss, beside 1 of the affinities."""
    step: Count = 2
    """Voxels that share a window, along each axis."""


class Tiles(_Part):
    """How the trained network is to be laid over a volume."""

    input_tile: Sides = (96, 96, 96)
    """Voxels the network is given at once."""
    halo: Reach = (16, 16, 16)
    """Voxels on each side whose outputs are not kept."""
    batch: Count = 1
    """Tiles given at once."""


class Validation(_Part):
    """Voxels the network never trains on, on which the best checkpoint is chosen."""

    source: SourceSpec
    every: Count = 250
    """Steps."""
    thresholds: tuple[Fraction, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    """Of the agglomeration: the best one counts."""
    min_size: Annotated[int, Field(ge=0)] = 1000
    """Voxels; of the agglomeration."""


def _some(given: tuple[Any, ...]) -> tuple[Any, ...]:
    # Not `min_length`: that would also complain where an item is wrong.
    if not given:
        raise ValueError("wanted at least one")
    return given


class Training(_Part):
    """A whole training file."""

    out: Annotated[str, Field(min_length=1)]
    """Folder for checkpoints, log and pictures; a training that lies there is gone on with."""
    sources: Annotated[tuple[SourceSpec, ...], AfterValidator(_some)]
    """What is learnt from."""
    validation: Validation
    voxel_size_nm: Nanometres
    """Of all sources, z y x."""
    offsets: Annotated[tuple[Triple, ...], AfterValidator(_some)] = NEAREST
    """Affinities the network learns; the first three should be the previous neighbours."""
    long_range_weight: Positive = 0.5
    """Of every channel but the first three, in the loss."""
    descriptors: Descriptors | None = None
    """Learnt as well, as a head `lsd` beside `affinity`; default: affinities alone."""
    start: str | None = None
    """Checkpoint, or name of a shipped network, whose weights are started from; heads and
    channels that it has not start fresh."""
    network: NetworkSpec = NetworkSpec()
    tiles: Tiles = Tiles()
    normalisation: Normalisation = Normalisation()
    augmentation: Augmentation = Augmentation()
    crop: Sides = (64, 64, 64)
    """Voxels of a training crop."""
    batch: Count = 1
    """Crops of a step."""
    steps: Count = 4000
    learning_rate: Positive = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-2
    warmup: Annotated[int, Field(ge=0)] = 100
    """Steps until the learning rate is reached."""
    decay: Fraction = 0.3
    """Part of the steps, at the end, over which the learning rate falls to zero."""
    frozen: Fraction = 0.4
    """Part of the steps, at the end, in which normalisation uses the statistics it will use for
    good."""
    average: Annotated[float, Field(ge=0, lt=1)] = 0.998
    """Of the moving average of the weights, which is what is validated and kept; 0: none."""
    seed: int = 0
    precision: Literal["bf16", "fp32"] = "bf16"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Count = 1
    """Of torch. Where others compute on the same processors, one is by far the fastest."""
    save_every: Count = 100
    """Steps between states that training can be resumed from."""
    card: str = ""
    """File name of the model card that will lie beside the checkpoint."""

    @model_validator(mode="after")
    def _fits_together(self) -> Training:
        pools = self.network.pools
        if len(pools) != len(self.network.widths) - 1:
            raise ValueError(
                f"network: {len(self.network.widths)} widths need one pool fewer; got {len(pools)}"
            )
        for axis, name in enumerate("zyx"):
            stride = 1
            for pool in pools:
                stride *= pool[axis]
            kept = self.tiles.input_tile[axis] - 2 * self.tiles.halo[axis]
            for what, side in (
                ("crop", self.crop[axis]),
                ("tiles.input_tile", self.tiles.input_tile[axis]),
                ("tiles.halo", self.tiles.halo[axis]),
            ):
                if side % stride:
                    raise ValueError(
                        f"{what} must be a multiple of {stride} along {name}, which is how much "
                        f"the network pools there; got {side}"
                    )
            if kept < 1:
                raise ValueError(f"tiles.halo leaves nothing of tiles.input_tile along {name}")
        return self


def load(path: str | os.PathLike[str], overrides: tuple[str, ...] = ()) -> Training:
    """Read a training file, with `dotted.key=value` overrides put in place of what it says.

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
    mistakes = Mistakes(Where(os.fspath(path), found.lines))
    for place, line, problem in found.mistakes:
        mistakes.add(place, problem, line)
    if not isinstance(found.data, dict):
        mistakes.add((), "wanted keys and values (out, sources, validation)", 1)
        raise PlanError(*mistakes.found)
    target = Overridden(found.data, found.lines)
    apply(target, overrides, {"": keys_of(Training)}, mistakes)
    mistakes.where = Where(os.fspath(path), target.lines, target.options)
    try:
        training = Training.model_validate(target.data)
    except ValidationError as error:
        mistakes.add_validation(error, target.data, _keys_at)
    if mistakes:
        raise PlanError(*mistakes.found)
    return _with_absolute_paths(training)


def _keys_at(path: KeyPath) -> list[str]:
    """The keys that a mapping at this path may have."""
    model: type[BaseModel] = Training
    names: dict[str, type[BaseModel]] = {
        "sources": SourceSpec, "source": SourceSpec, "validation": Validation,
        "network": NetworkSpec, "tiles": Tiles, "descriptors": Descriptors,
        "normalisation": Normalisation, "augmentation": Augmentation, "image": VolumeSpec,
        "labels": VolumeSpec, "synthetic": Synthetic,
    }  # fmt: skip
    for part in path:
        if isinstance(part, str):
            model = names.get(part, model)
    return keys_of(model)


def _with_absolute_paths(training: Training) -> Training:
    def placed(source: SourceSpec) -> SourceSpec:
        changed = {
            name: spec.model_copy(update={"path": absolute(spec.path)})
            for name, spec in (("image", source.image), ("labels", source.labels))
            if spec is not None
        }
        return source.model_copy(update=changed)

    validation, start = training.validation, training.start
    if start is not None and start not in shipped_networks():
        start = absolute(start)
    return training.model_copy(
        update={
            "out": absolute(training.out),
            "start": start,
            "sources": tuple(placed(source) for source in training.sources),
            "validation": validation.model_copy(update={"source": placed(validation.source)}),
        }
    )
