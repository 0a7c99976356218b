"""The heads, mixing and tiles of a training file."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from volflow.checkpoints.header import Fraction, Padding, Reach, Sides
from volflow.config.spec import Spec
from volflow.train.config.sources import Count, Positive, not_empty


class Descriptors(Spec):
    """Local shape descriptors, trained together with affinities; see `segment.descriptors`."""

    sigma_nm: Positive = 80.0
    """Standard deviation of the Gaussian window, nanometres, above 0."""
    weight: Positive = 5.0
    """Weight of their squared error in the loss, above 0; that of the affinities is 1."""
    step: Count = 2
    """Voxels along each axis that share a window."""


class Foreground(Spec):
    """The voxels of all objects, trained on sources whose label 0 is background."""

    weight: Positive = 1.0
    """Weight of its cross entropy in the loss, above 0."""


class MaskHead(Spec):
    """Masks that are trained together, as one head of the network."""

    channels: Annotated[tuple[str, ...], AfterValidator(not_empty)]
    """Names of masks of the sources; `NAME.contour` is the border of the objects in mask NAME."""
    weight: Positive = 1.0
    """Weight of its cross entropy and Dice loss, above 0."""
    contour: Reach = (1, 1, 1)
    """Half width of contours z y x, voxels; 0 along z in sources with `flat`."""


class Mixing(Spec):
    """Mixing of crops of several sources; see `train.data.mixing`."""

    frequency: Fraction = 0.0
    """Probability that a crop gets the low-frequency amplitudes of another source, 0 to 1."""
    beta: Annotated[float, Field(ge=0, lt=0.5)] = 0.01
    """Highest of these frequencies, as a fraction of the crop's side, 0 to 0.5; 0: only the mean
    brightness."""
    cutmix: Fraction = 0.0
    """Probability that a window through all sections shows another crop, truth included, 0 to 1."""
    window: Count = 70
    """Side of the window along y and x, voxels; at most the crop's."""
    other: Fraction = 0.5
    """Probability that the other crop is from another source, 0 to 1."""


class Tiles(Spec):
    """The tiles in which the trained network is applied to a volume."""

    input_tile: Sides = (96, 96, 96)
    """Shape of an input tile z y x, voxels."""
    halo: Reach = (16, 16, 16)
    """Voxels z y x at each face of a tile whose outputs are discarded."""
    batch: Count = 1
    """Tiles per batch on a GPU."""
    padding: Padding = "reflect"
    """Padding beyond the faces of a volume `a b c`: reflect `c b | a b c | b a`, symmetric
    `b a | a b c | c b`."""
