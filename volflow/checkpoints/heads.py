"""The heads of a network: affinities, descriptors, masks or anything else.

A network has one last layer; its heads are runs of that layer's channels, named in order:

    | affinity: 12 channels | lsd: 10 channels |
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from volflow.core.geometry import Triple


class Head(BaseModel):
    """Channels of a network that belong together, and the meaning of their values."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    channels: Annotated[int, Field(ge=1)]
    """Number of channels."""
    offsets: tuple[Triple, ...] = ()
    """For affinities: channel c joins voxel v with v + offsets[c], z y x. Empty: not affinities."""
    sigmoid: bool = True
    """Whether the network returns logits of these channels, to which a sigmoid is applied."""
    range: tuple[float, float] = (0.0, 1.0)
    """Values that are stored as 0 and as 255; values outside are clipped."""
    odd: tuple[Annotated[str, Field(pattern=r"^z?y?x?$")], ...] = ()
    """For each channel, the axes whose flip turns a value v into low + high - v of the range, as
    for the components of a vector; empty: none."""
    sigma_nm: Annotated[float, Field(gt=0)] | None = None
    """For local shape descriptors: standard deviation of the window, nanometres."""

    @model_validator(mode="after")
    def _has_one_of_each(self) -> Head:
        for name, items in (("offsets", self.offsets), ("odd", self.odd)):
            if items and len(items) != self.channels:
                raise ValueError(
                    f"{self.channels} output channels need as many {name}; got {len(items)}"
                )
        if not self.range[0] < self.range[1]:
            raise ValueError(f"range must ascend; got {self.range}")
        return self
