"""The light trunk: the features of a section at strides 1 to 16."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from volflow.models.iicats.layers import Unit


class Trunk(nn.Module):
    """A network that turns a section into features at several strides.

    Attributes
    ----------
    strides, channels : tuple of int
        Of each level, finest first.
    """

    strides: tuple[int, ...]
    channels: tuple[int, ...]


class LightTrunk(Trunk):
    """Two 3x3 convolutions per level, each level at half the resolution of the one before.

    Parameters
    ----------
    inputs : int
        Channels of the image and of layers next to it.
    widths : sequence of int
        Channels of each level, finest first.

    Attributes
    ----------
    strides, channels : tuple of int
        Of each level, finest first; the first stride is 1.
    """

    def __init__(self, inputs: int, widths: Sequence[int] = (8, 16, 32, 64, 96)) -> None:
        super().__init__()
        self.channels = tuple(widths)
        self.strides = tuple(2**level for level in range(len(widths)))
        self.levels = nn.ModuleList([Unit(inputs, widths[0])])
        for before, width in pairwise(widths):
            self.levels.append(nn.Sequential(Unit(before, width, 2), Unit(width, width)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, inputs, Y, X) to one tensor (B, channels, Y / stride, X / stride) per level."""
        features = []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features
