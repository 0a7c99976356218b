"""What a training file says of its network: which one, of which shape."""

from __future__ import annotations

from math import prod
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from volflow.checkpoints.header import Sides
from volflow.core.geometry import Triple
from volflow.train.config.sources import Count, Part

WIDTHS = {"resunet3d": (16, 32, 64, 96), "mnet": (32, 64, 96, 128, 256)}
OWN = {
    "resunet3d": ("widths", "pools", "depth", "first_kernel", "kernels", "activation"),
    "mnet": ("widths", "normalisation", "sections"),
}
"""Keys that each kind has."""


class NetworkSpec(Part):
    """The shape of the network; see `models.resunet3d` and `models.mnet`."""

    kind: Literal["resunet3d", "mnet"] = "resunet3d"
    """A residual U-Net, or a mesh of streams in two and three dimensions."""
    widths: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    """Channels of each level, finest first; of mnet five."""
    pools: tuple[Sides, ...] = ((2, 2, 2), (2, 2, 2), (2, 2, 2))
    """resunet3d: pooling from level to level."""
    depth: Count = 1
    """resunet3d: convolutions inside a residual connection."""
    first_kernel: Sides = (3, 3, 3)
    """resunet3d: (1, 5, 5) for thick sections."""
    kernels: tuple[Sides, ...] | None = None
    """resunet3d: of each level, odd, z y x; default: (3, 3, 3) everywhere."""
    activation: Literal["relu", "elu"] = "relu"
    """resunet3d."""
    normalisation: Literal["instance", "batch"] = "instance"
    """mnet: by the tile, as published, or by constants, so that tiles do not matter."""
    sections: Count = 20
    """mnet: how deep tiles are; z is halved while 8 sections or more are left, of the tile where
    that has fewer."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> NetworkSpec:
        strange = sorted(self.model_fields_set - {"kind", *OWN[self.kind]})
        if strange:
            raise ValueError(
                f"a network of kind {self.kind} has no {' and no '.join(strange)}; it has "
                f"{', '.join(OWN[self.kind])}"
            )
        levels = len(self.shape)
        if self.kind == "mnet" and levels != 5:
            raise ValueError(f"mnet has 5 levels; got {levels} widths")
        if self.kind == "resunet3d" and len(self.pools) != levels - 1:
            raise ValueError(f"{levels} widths need one pool fewer; got {len(self.pools)}")
        if self.kernels is not None and len(self.kernels) != levels:
            raise ValueError(f"{levels} widths need as many kernels; got {len(self.kernels)}")
        if any(side % 2 == 0 for kernel in self.kernels or () for side in kernel):
            raise ValueError(f"kernels must be odd; got {[list(k) for k in self.kernels or ()]}")
        return self

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels of each level."""
        return self.widths or WIDTHS[self.kind]

    @property
    def stride(self) -> Triple:
        """How much it pools along each axis."""
        if self.kind == "mnet":
            left, along_z = self.sections, 1
            while along_z < 16 and left >= 8:
                left, along_z = left // 2, along_z * 2
            return (along_z, 16, 16)
        z, y, x = (prod(pool[axis] for pool in self.pools) for axis in range(3))
        return z, y, x

    def arguments(self, affinities: int, others: int) -> dict[str, Any]:
        """What the network's class is made with, for so many channels."""
        own = {name: getattr(self, name) for name in OWN[self.kind]} | {"widths": self.shape}
        shown = type(self).model_construct(**own).model_dump(mode="json", include=set(own))
        if shown.get("kernels", 0) is None:  # as before there were any
            del shown["kernels"]
        channels: int | list[int] = affinities + others
        if self.kind == "mnet":
            channels = [n for n in (affinities, others) if n]  # a decoder each
        return {"in_channels": 1, "out_channels": channels, **shown}
