"""What some of the channels of a network are: affinities, descriptors, or something else.

A network has one last layer; its heads are runs of that layer's channels, named in order:

    | affinity: 12 channels | lsd: 10 channels |
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from volflow.core.geometry import Triple


class Head(BaseModel):
    """Channels of a network that belong together, and what their numbers mean."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    channels: Annotated[int, Field(ge=1)]
    """How many."""
    offsets: tuple[Triple, ...] = ()
    """Affinities: channel c joins voxel v with v + offsets[c], z y x. Empty: not affinities."""
    sigmoid: bool = True
    """The network returns logits of these; what is expected is their sigmoid."""
    range: tuple[float, float] = (0.0, 1.0)
    """What is stored as 0 and as 255; what lies beyond is cut off."""
    odd: tuple[Annotated[str, Field(pattern=r"^z?y?x?$")], ...] = ()
    """Of each channel, the axes whose flip turns v into the sum of the range's ends less v, as it
    does the parts of an arrow; empty: of none."""
    sigma_nm: Annotated[float, Field(gt=0)] | None = None
    """Of local shape descriptors: the window's standard deviation."""

    @model_validator(mode="after")
    def _has_one_of_each(self) -> Head:
        for name, found in (("offsets", self.offsets), ("odd", self.odd)):
            if found and len(found) != self.channels:
                raise ValueError(
                    f"{self.channels} output channels need as many {name}; got {len(found)}"
                )
        if not self.range[0] < self.range[1]:
            raise ValueError(f"range must ascend; got {self.range}")
        return self
