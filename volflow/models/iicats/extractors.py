"""Extractors: the encoding G and the pixel weights W of a mask or layer, and B of a box."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from volflow.models.iicats.layers import BasicBlock, initialise


class PairExtractor(nn.Module):
    """G and W of one type of support: an encoding and pixel weights, two heads of one body.

    Parameters
    ----------
    inputs : int
        Channels of the mask or layer.
    encoding : int
        Channels of G and W.
    widths : three int
        Channels of the body.
    stride : 8 or 16
        Pixels from one output to the next.
    limit : float, optional
        Largest value of G, which approaches it smoothly (ours); default: none, as published.
        Without a limit, the encodings of an object's masks grow in training until those of offline
        types, to which they are added, no longer matter.

    References
    ----------
    Zhai et al., II-CATS, MIDL 2023; the body is that of Bhat et al., Learning What to Learn for
    Video Object Segmentation, ECCV 2020.
    """

    def __init__(
        self,
        inputs: int,
        encoding: int,
        widths: Sequence[int],
        stride: int,
        limit: float | None = None,
    ) -> None:
        super().__init__()
        self.limit = limit
        if stride not in (8, 16):
            raise ValueError(f"expected a target stride of 8 or 16; got {stride}")
        first, second, third = widths
        self.enter = nn.Conv2d(inputs, first, 3, 2, 1)
        self.blocks = nn.Sequential(
            BasicBlock(first, second, 2), BasicBlock(second, third, stride // 8)
        )
        self.target = nn.Conv2d(third, encoding, 3, 1, 1)
        self.weight = nn.Conv2d(third, encoding, 3, 1, 1)
        initialise(self)
        nn.init.zeros_(self.weight.weight)
        assert self.weight.bias is not None
        nn.init.ones_(self.weight.bias)

    def forward(self, support: Tensor) -> tuple[Tensor, Tensor]:
        """(B, inputs, Y, X), probabilities, to G >= 0 and W (B, encoding, Y / s, X / s) each.

        W is 1 before training; its sign does not matter, because it enters squared.
        """
        x = self.blocks(max_pool2d(self.enter(support).relu(), 3, 2, 1))
        target = self.target(x).relu()
        if self.limit is not None:
            target = self.limit * (target / self.limit).tanh()
        return target, self.weight(x)


class BoxExtractor(nn.Module):
    """B: the encoding of a box, in place of filter responses, from which a first mask is decoded.

    Parameters
    ----------
    features, encoding : int
        Channels of the target features and of the encoding.
    width : int
        Channels of the two residual blocks.
    """

    def __init__(self, features: int, encoding: int, width: int = 64) -> None:
        super().__init__()
        self.blocks = nn.Sequential(BasicBlock(features + 1, width), BasicBlock(width, width))
        self.head = nn.Conv2d(width, encoding, 3, 1, 1)
        initialise(self)

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Target features (B, F, y, x) and masks of boxes (B, 1, Y, X) to (B, encoding, y, x)."""
        small = interpolate(boxes, size=features.shape[-2:], mode="bilinear", align_corners=False)
        x = self.blocks(torch.cat([features, small], 1))
        encoded: Tensor = self.head(x).relu()
        return encoded


def box_masks(boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Boxes as masks of 0 and 1.

    Parameters
    ----------
    boxes : int (B, 4)
        y0 x0 y1 x1, half-open, pixels.
    shape : two int
        Y, X.

    Returns
    -------
    float32 (B, 1, Y, X)
    """
    y, x = torch.arange(shape[0]), torch.arange(shape[1])
    rows = (y >= boxes[:, :1]) & (y < boxes[:, 2:3])
    across = (x >= boxes[:, 1:2]) & (x < boxes[:, 3:4])
    return (rows[:, None, :, None] & across[:, None, None, :]).float()
