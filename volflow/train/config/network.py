"""The network of a training file: its kind and its shape."""

from __future__ import annotations

from math import prod
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from volflow.checkpoints.header import Sides
from volflow.config.spec import Spec
from volflow.core.geometry import Triple
from volflow.train.config.sources import Count

WIDTHS = {"resunet3d": (16, 32, 64, 96), "mnet": (32, 64, 96, 128, 256)}
KEYS = {
    "resunet3d": ("widths", "pools", "depth", "first_kernel", "kernels", "activation"),
    "mnet": ("widths", "normalisation", "sections"),
}
"""The keys of each kind of network."""


class NetworkSpec(Spec):
    """The shape of the network; see `models.resunet3d` and `models.mnet`."""

    kind: Literal["resunet3d", "mnet"] = "resunet3d"
    """`resunet3d`, a residual U-Net, or `mnet`, a mesh of 2D and 3D convolutions."""
    widths: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Channels of each level, finest first; mnet has five. Default: 16 32 64 96 for resunet3d,
    32 64 96 128 256 for mnet."""
    pools: tuple[Sides, ...] = ((2, 2, 2), (2, 2, 2), (2, 2, 2))
    """resunet3d: pooling z y x from each level to the next."""
    depth: Count = 1
    """resunet3d: convolutions inside a residual connection."""
    first_kernel: Sides = (3, 3, 3)
    """resunet3d: kernel z y x of the first convolution, odd; [1, 5, 5] for thick sections."""
    kernels: tuple[Sides, ...] | None = None
    """resunet3d: kernel z y x of each level, odd; default: [3, 3, 3] on all."""
    activation: Literal["relu", "elu"] = "relu"
    """resunet3d: activation function."""
    normalisation: Literal["instance", "batch"] = "instance"
    """mnet: normalisation by the statistics of the tile (instance), as published, or by constants
    (batch), so that predictions do not depend on tiles."""
    sections: Count = 20
    """mnet: depth of tiles, sections; z is pooled while at least 8 sections are left, of the tile
    where that is thinner."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> NetworkSpec:
        foreign = sorted(self.model_fields_set - {"kind", *KEYS[self.kind]})
        if foreign:
            raise ValueError(
                f"a network of kind {self.kind} has no {' and no '.join(foreign)}; expected "
                f"{', '.join(KEYS[self.kind])}"
            )
        levels = len(self.shape)
        if self.kind == "mnet" and levels != 5:
            raise ValueError(f"mnet has 5 levels; got {levels} widths")
        if self.kind == "resunet3d" and len(self.pools) != levels - 1:
            raise ValueError(
                f"expected one pool fewer than widths, {levels - 1}; got {len(self.pools)}"
            )
        if self.kernels is not None and len(self.kernels) != levels:
            raise ValueError(
                f"expected as many kernels as widths, {levels}; got {len(self.kernels)}"
            )
        if any(side % 2 == 0 for kernel in self.kernels or () for side in kernel):
            raise ValueError(f"kernels must be odd; got {[list(k) for k in self.kernels or ()]}")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels of each level."""
        return self.widths or WIDTHS[self.kind]

    @property
    def stride(self) -> Triple:
        """The product of all poolings along z, y and x."""
        if self.kind == "mnet":
            left, along_z = self.sections, 1
            while along_z < 16 and left >= 8:
                left, along_z = left // 2, along_z * 2
            return (along_z, 16, 16)
        z, y, x = (prod(pool[axis] for pool in self.pools) for axis in range(3))
        return z, y, x

    def arguments(self, affinities: int, others: int) -> dict[str, Any]:
        """The keyword arguments of the network's class, for these numbers of channels."""
        own = {name: getattr(self, name) for name in KEYS[self.kind]} | {"widths": self.shape}
        dumped = type(self).model_construct(**own).model_dump(mode="json", include=set(own))
        if dumped.get("kernels", 0) is None:  # keeps the bytes of older checkpoints
            del dumped["kernels"]
        channels: int | list[int] = affinities + others
        if self.kind == "mnet":
            channels = [n for n in (affinities, others) if n]  # one decoder each
        return {"in_channels": 1, "out_channels": channels, **dumped}
