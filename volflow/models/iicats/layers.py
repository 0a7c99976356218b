"""Layers that the parts of the few-shot segmenter are built from."""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm


class ChannelNorm(nn.Module):
    """Normalisation over the channels of each pixel.

    A pixel's value depends on no other pixel, so an output does not depend on the crop or window,
    and there are no statistics that a training on single crops could get wrong.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) to the same shape."""
        last = x.permute(0, 2, 3, 1)
        return layer_norm(last, self.weight.shape, self.weight, self.bias, self.eps).permute(
            0, 3, 1, 2
        )


class Unit(nn.Sequential):
    """3x3 convolution, normalisation over channels, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            ChannelNorm(outputs),
            nn.ReLU(),
        )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a 3x3 convolution as shortcut; no normalisation."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 3, stride, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, Y, X) to (B, outputs, Y / stride, X / stride)."""
        inner: Tensor = self.second(self.first(x).relu())
        inner += self.shortcut(x)
        return inner.relu()


def initialise(module: nn.Module) -> None:
    """Draw the weights of all convolutions from N(0, 2 / (k k outputs)); biases become 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            area = part.kernel_size[0] * part.kernel_size[1]
            nn.init.normal_(part.weight, 0, sqrt(2 / (area * part.out_channels)))
            if part.bias is not None:
                nn.init.zeros_(part.bias)
