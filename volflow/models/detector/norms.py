"""Normalisations whose output does not depend on the rest of a batch.

frozen   constants: the statistics of public weights, never updated
channel  mean and variance over the channels of each pixel: nothing depends on the tile
group    GroupNorm: for random weights and large crops; statistics are those of the crop
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

GROUPS = 32


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation with constants, in training as in prediction.

    Its tensors are buffers with the names of `nn.BatchNorm2d`: weights of others load, and no
    optimizer sees them.

    Parameters
    ----------
    channels : int
    epsilon : float
        Added to the variance.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon
        for name, value in (("weight", 1.0), ("bias", 0.0), ("running_mean", 0.0)):
            self.register_buffer(name, torch.full((channels,), value))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X), the same shape out."""
        scale = self.weight * (self.running_var + self.epsilon).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


class ChannelNorm(nn.Module):
    """Normalisation over the channels of each pixel, with a scale and a shift for each channel.

    Parameters
    ----------
    channels : int
    epsilon : float
        Added to the variance.
    """

    def __init__(self, channels: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X), the same shape out."""
        centred = x - x.mean(1, keepdim=True)
        variance = (centred * centred).mean(1, keepdim=True)
        scaled = centred * (variance + self.epsilon).rsqrt()
        return scaled * self.weight[:, None, None] + self.bias[:, None, None]


def group_norm(channels: int) -> nn.Module:
    """GroupNorm with 32 groups, or as many fewer as divide the channels."""
    return nn.GroupNorm(next(n for n in range(GROUPS, 0, -1) if channels % n == 0), channels)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "frozen": FrozenBatchNorm2d,
    "channel": ChannelNorm,
    "group": group_norm,
}
"""The normalisations by name; each is called with a number of channels."""


def norm_named(name: str) -> Callable[[int], nn.Module]:
    """The normalisation of a name.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in NORMS:
        raise ValueError(f"norm: expected one of {', '.join(NORMS)}; got {name!r}")
    return NORMS[name]
