"""The training file: read, checked, and told with all its mistakes at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from volflow.checkpoints.find import bundled_networks
from volflow.checkpoints.header import Fraction, Nanometres, Normalisation, Padding, Reach, Sides
from volflow.config.file import read_yaml
from volflow.config.overrides import Overridden, apply
from volflow.config.pipeline import VolumeSpec, absolute
from volflow.config.problems import KeyPath, Problems, Where, closest, keys_of
from volflow.core.geometry import Triple
from volflow.errors import PlanError
from volflow.train.config.network import NetworkSpec
from volflow.train.config.sources import Count, MaskSpec, Part, Positive, SourceSpec, Synthetic
from volflow.train.data.augment import Augmentation

__all__ = ["NetworkSpec", "SourceSpec", "Synthetic", "Training", "load"]

NEAREST: tuple[Triple, ...] = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))
CONTOUR = ".contour"  # ends the name of a channel that is the border of a mask's objects
TAKEN = ("affinity", "lsd", "foreground")  # names of heads that are not masks


def _some(given: tuple[Any, ...]) -> tuple[Any, ...]:
    # Not `min_length`: that would also complain where an item is wrong.
    if not given:
        raise ValueError("expected at least one")
    return given


class Descriptors(Part):
    """Local shape descriptors, learnt beside affinities; see `segment.descriptors`."""

    sigma_nm: Positive = 80.0
    """Standard deviation of the window."""
    weight: Positive = 5.0
    """Of their squared error in the loss, beside 1 of the affinities."""
    step: Count = 2
    """Voxels that share a window, along each axis."""


class Foreground(Part):
    """What is part of an object, learnt from sources whose label 0 is background."""

    weight: Positive = 1.0
    """Of its cross entropy in the loss."""


class MaskHead(Part):
    """Masks that are learnt together, as one head of the network."""

    channels: Annotated[tuple[str, ...], AfterValidator(_some)]
    """Names of masks of the sources; `NAME.contour` is the border of the objects in mask NAME."""
    weight: Positive = 1.0
    """Of its cross entropy and Dice error in the loss."""
    contour: Reach = (1, 1, 1)
    """Voxels z y x that a contour reaches to each side; of sources with `flat`, 0 along z."""


class Mixing(Part):
    """Sources shown with one another's looks, and mixed in one crop; see `train.mixing`."""

    frequency: Fraction = 0.0
    """Chance that a crop's low frequencies are given the strengths of another source's."""
    beta: Annotated[float, Field(ge=0, lt=0.5)] = 0.01
    """How many of them, as a part of the crop's side; 0: brightness alone."""
    cutmix: Fraction = 0.0
    """Chance that a window through all sections shows another crop, truth included."""
    window: Count = 70
    """Voxels: its side along y and x, cut to the crop's."""
    other: Fraction = 0.5
    """Chance that the other crop is of another source."""


class Tiles(Part):
    """How the trained network is to be laid over a volume."""

    input_tile: Sides = (96, 96, 96)
    """Voxels the network is given at once."""
    halo: Reach = (16, 16, 16)
    """Voxels on each side whose outputs are not kept."""
    batch: Count = 1
    """Tiles given at once."""
    padding: Padding = "reflect"
    """What the network is shown beyond the faces of a volume `a b c`: reflect `c b | a b c | b a`,
    symmetric `b a | a b c | c b`."""


class Validation(Part):
    """Voxels the network never trains on, on which the best checkpoint is chosen."""

    source: SourceSpec | None = None
    """What is looked at."""
    sources: tuple[SourceSpec, ...] = ()
    """Instead of source: several. The best checkpoint has the least mean of all their scores."""
    every: Count = 250
    """Steps."""
    thresholds: tuple[Fraction, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    """Of the agglomeration: the best one counts."""
    min_size: Annotated[int, Field(ge=0)] = 1000
    """Voxels; of the agglomeration."""
    flat_min_size: Annotated[int, Field(ge=0)] = 100
    """The same of a section alone, where labels are flat."""
    mask_thresholds: tuple[Fraction, ...] = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    """Of masks and foreground: the best one counts."""

    @model_validator(mode="after")
    def _has_sources(self) -> Validation:
        if (self.source is None) == (not self.sources):
            raise ValueError("expected either source or sources")
        if len({source.title for source in self.held_out}) < len(self.sources):
            raise ValueError("sources of a validation need names that differ: name: NAME")
        return self

    @property
    def held_out(self) -> tuple[SourceSpec, ...]:
        """The sources, however they were given."""
        return self.sources if self.source is None else (self.source,)


class Training(Part):
    """A whole training file."""

    out: Annotated[str, Field(min_length=1)]
    """Folder for checkpoints, log and pictures; a training that lies there is gone on with."""
    sources: Annotated[tuple[SourceSpec, ...], AfterValidator(_some)]
    """What is learnt from."""
    validation: Validation
    voxel_size_nm: Nanometres
    """That the network learns, z y x; sources that have another are brought to it."""
    offsets: tuple[Triple, ...] = NEAREST
    """Affinities the network learns; the first three should be the previous neighbours. []: none,
    where something else is learnt."""
    long_range_weight: Positive = 0.5
    """Of every channel but the first three, in the loss."""
    descriptors: Descriptors | None = None
    """Learnt as well, as a head `lsd` beside `affinity`; default: affinities alone."""
    foreground: Foreground | None = None
    """Learnt as well, as a head `foreground`: which voxels are part of an object."""
    masks: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], MaskHead] = Field(
        default_factory=dict
    )
    """Learnt as well, as heads of these names."""
    start: str | None = None
    """Checkpoint, or name of a shipped network, whose weights are started from; heads and
    channels that it has not start fresh."""
    start_encoder: str | None = None
    """What `volflow pretrain` wrote, `encoder.safetensors`: the network begins with it; the rest is
    fresh."""
    network: NetworkSpec = NetworkSpec()
    tiles: Tiles = Tiles()
    normalisation: Normalisation = Normalisation()
    augmentation: Augmentation = Augmentation()
    mixing: Mixing = Mixing()
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
    sharp: Fraction = 0.0
    """Part of the steps, at the end, whose crops show each voxel as it was imaged: neither turned,
    magnified, bent, blurred nor noisy, and no section shifted."""
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

    def augmentation_at(self, step: int) -> Augmentation:
        """How the crops of a step are changed."""
        last = step >= (1 - self.sharp) * self.steps
        return self.augmentation.sharp() if last else self.augmentation

    @model_validator(mode="after")
    def _fits_together(self) -> Training:
        wrong = "; ".join(_strange(self))
        if wrong:
            raise ValueError(wrong)
        for axis, name in enumerate("zyx"):
            stride = self.network.stride[axis]
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


def _strange(training: Training) -> list[str]:
    """What is to be learnt and cannot be, because no source knows it."""
    wrong, sources = [], training.sources
    if not (training.offsets or training.descriptors or training.foreground or training.masks):
        return ["nothing is learnt: expected offsets, descriptors, foreground or masks"]
    if (training.offsets or training.descriptors) and not any(s.has_labels for s in sources):
        wrong.append("affinities and descriptors are learnt from labels; no source has any")
    if training.foreground and not any(s.has_labels and s.zero == "background" for s in sources):
        wrong.append(
            "foreground is learnt from labels with zero: background; no source has any such"
        )
    if training.start is not None and training.start_encoder is not None:
        wrong.append("start and start_encoder: expected one of them")
    known = sorted({mask for source in sources for mask in source.known_masks})
    for head, learnt in training.masks.items():
        if head in TAKEN:
            wrong.append(f"masks.{head}: a head of masks cannot be called {' or '.join(TAKEN)}")
        for channel in learnt.channels:
            mask = channel.removesuffix(CONTOUR)
            if mask not in known:
                wrong.append(
                    f"masks.{head}: no source knows a mask '{mask}'{closest(mask, known)} (known: "
                    f"{', '.join(known) or 'none'}; '.contour' of one is its border)"
                )
    return wrong


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
    problems = Problems(Where(os.fspath(path), found.lines))
    for place, line, problem in found.problems:
        problems.add(place, problem, line)
    if not isinstance(found.data, dict):
        problems.add((), "expected keys and values (out, sources, validation)", 1)
        raise PlanError(*problems.found)
    target = Overridden(found.data, found.lines)
    apply(target, overrides, {"": keys_of(Training)}, problems)
    problems.where = Where(os.fspath(path), target.lines, target.options)
    try:
        training = Training.model_validate(target.data)
    except ValidationError as error:
        problems.add_validation(error, target.data, _keys_at)
    if problems:
        raise PlanError(*problems.found)
    return _with_absolute_paths(training)


def _keys_at(path: KeyPath) -> list[str]:
    """The keys that a mapping at this path may have."""
    names: dict[str, type[BaseModel]] = {
        "sources": SourceSpec, "source": SourceSpec, "validation": Validation,
        "network": NetworkSpec, "tiles": Tiles, "descriptors": Descriptors,
        "normalisation": Normalisation, "augmentation": Augmentation, "image": VolumeSpec,
        "labels": VolumeSpec, "synthetic": Synthetic, "foreground": Foreground, "known": MaskSpec,
        "mixing": Mixing,
    }  # fmt: skip
    model: type[BaseModel] = Training
    for part in path:
        if part == "masks":
            model = MaskSpec if model is SourceSpec else MaskHead
        elif isinstance(part, str):
            model = names.get(part, model)
    return keys_of(model)


def _with_absolute_paths(training: Training) -> Training:
    validation, start, encoder = training.validation, training.start, training.start_encoder
    if start is not None and start not in bundled_networks():
        start = absolute(start)
    held_out = {
        "source": validation.source and validation.source.placed(),
        "sources": tuple(source.placed() for source in validation.sources),
    }
    return training.model_copy(
        update={
            "out": absolute(training.out),
            "start": start,
            "start_encoder": None if encoder is None else absolute(encoder),
            "sources": tuple(source.placed() for source in training.sources),
            "validation": validation.model_copy(update=held_out),
        }
    )
