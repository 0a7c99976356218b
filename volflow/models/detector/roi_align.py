"""Features of boxes: every box is sampled on a grid of its own, by bilinear interpolation.

References
----------
He et al., Mask R-CNN, ICCV 2017, section 3, RoIAlign.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

SAMPLES = 2  # along each side of a bin


def roi_align(features: Tensor, boxes: Tensor, stride: float, bins: int = 7) -> Tensor:
    """Mean features in the bins of boxes.

    A feature is a sample at the centre of its pixel ("aligned"). Beyond the outermost centres the
    border continues.

    Parameters
    ----------
    features : float tensor, (C, Y, X)
        Features of one section.
    boxes : float tensor, (R, 4)
        Boxes y0, x0, y1, x1, pixels of the section.
    stride : float
        Pixels of the section per pixel of the features.
    bins : int
        Bins along each side of a box.

    Returns
    -------
    float tensor, (R, C, bins, bins)
        Each bin is the mean of 2 x 2 samples.
    """
    channels, height, width = features.shape
    count = len(boxes)
    if not count:
        return features.new_zeros((0, channels, bins, bins))
    place, weight = _taps(boxes[:, 0] / stride, boxes[:, 2] / stride, bins, height)
    along_x, weight_x = _taps(boxes[:, 1] / stride, boxes[:, 3] / stride, bins, width)
    # (R, bins, 1, 4, 1) with (R, 1, bins, 1, 4): 16 pixels for each bin
    index = place[:, :, None, :, None] * width + along_x[:, None, :, None, :]
    weights = weight[:, :, None, :, None] * weight_x[:, None, :, None, :]
    pixels = features.reshape(channels, -1).T.contiguous()
    means = embedding_bag(
        index.reshape(-1, 16),
        pixels,
        mode="sum",
        per_sample_weights=weights.reshape(-1, 16).to(features.dtype),
    )  # (R * bins * bins, C)
    return means.view(count, bins, bins, channels).permute(0, 3, 1, 2)


def _taps(low: Tensor, high: Tensor, bins: int, length: int) -> tuple[Tensor, Tensor]:
    """The pixels along one axis that the bins of boxes take part of, and their weights.

    Parameters
    ----------
    low, high : float tensor, (R,)
        Ends of the boxes, in pixels of the features.
    bins, length : int
        Bins of a box and pixels of the features along the axis.

    Returns
    -------
    index : int64 tensor, (R, bins, 4)
        Two samples of two pixels each.
    weight : float tensor, (R, bins, 4)
        They add up to 1.
    """
    samples = bins * SAMPLES
    steps = (torch.arange(samples, dtype=low.dtype, device=low.device) + 0.5) / samples
    at = low[:, None] + (high - low)[:, None] * steps - 0.5  # 0: the centre of the first pixel
    at = at.clamp(0, length - 1)
    before = at.floor().clamp(max=max(0, length - 2))
    share = at - before
    first = before.to(torch.int64)
    second = (first + 1).clamp(max=length - 1)
    index = torch.stack([first, second], -1).view(len(low), bins, 2 * SAMPLES)
    weight = torch.stack([1 - share, share], -1).view(len(low), bins, 2 * SAMPLES)
    return index, weight / SAMPLES


def level_of(boxes: Tensor, levels: int, finest_stride: int) -> Tensor:
    """The level of the pyramid from which each box takes its features.

    Parameters
    ----------
    boxes : float tensor, (R, 4)
    levels : int
        Levels that may be taken, finest first.
    finest_stride : int
        Of level 0, which serves boxes with sides up to 28 strides.

    Returns
    -------
    int64 tensor, (R,)

    References
    ----------
    Lin et al., CVPR 2017, equation 1, with the finest scale of 56 pixels at stride 4.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6).prod(1).sqrt()
    level = (sides / (14 * finest_stride)).log2().floor()
    return level.clamp(0, levels - 1).to(torch.int64)


def pyramid_align(
    levels: Sequence[Tensor], boxes: Tensor, strides: Sequence[int], bins: int = 7
) -> Tensor:
    """Features of boxes, each from the level that suits its size.

    Parameters
    ----------
    levels : sequence of float tensor, (C, Y, X)
        Levels of one section, finest first.
    boxes : float tensor, (R, 4)
    strides : sequence of int
        Of each level.
    bins : int

    Returns
    -------
    float tensor, (R, C, bins, bins)
    """
    chosen = level_of(boxes, len(levels), strides[0])
    order = torch.sort(chosen, stable=True).indices
    parts = [
        roi_align(features, boxes[order][chosen[order] == number], stride, bins)
        for number, (features, stride) in enumerate(zip(levels, strides, strict=True))
    ]
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    return torch.cat(parts)[back]


def anchor_scale(sides: tuple[float, float], strides: Sequence[int]) -> float:
    """The side of anchors, in strides, for boxes of these sizes.

    Anchors of all levels are centred, on a logarithmic axis, between small and large boxes.

    Parameters
    ----------
    sides : two floats
        The 5 and the 95 % quantile of the square root of boxes' areas, pixels, above 0.
    strides : sequence of int
        Of each level.
    """
    small, large = sides
    return math.sqrt(small * large) / math.sqrt(strides[0] * strides[-1])
