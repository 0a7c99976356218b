"""Region proposals: anchors on every level of the pyramid, scored and shifted by a small network.

References
----------
Ren et al., Faster R-CNN, NeurIPS 2015, section 3.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from volflow.models.detector.boxes import best_first, clipped, decode, keep_best

RATIOS = (0.5, 1.0, 2.0)  # height over width
LEAST_SIDE = 1.0  # pixels; smaller proposals are dropped


def anchors_of(shape: tuple[int, int], stride: int, side: float) -> Tensor:
    """The anchors of one level: at each pixel one for each ratio of sides.

    Parameters
    ----------
    shape : two int
        Pixels y, x of the level.
    stride : int
    side : float
        Square root of an anchor's area, pixels of the section.

    Returns
    -------
    float32 tensor, (Y * X * 3, 4)
        Ordered by y, x and ratio; centred on the level's pixels.
    """
    height, width = shape
    heights = side * torch.tensor(RATIOS).sqrt()
    half = torch.stack([heights, side * side / heights], 1) / 2  # (3, 2)
    y = (torch.arange(height) + 0.5) * stride
    x = (torch.arange(width) + 0.5) * stride
    centre = torch.stack(torch.meshgrid(y, x, indexing="ij"), -1)[:, :, None]  # (Y, X, 1, 2)
    return torch.cat([centre - half, centre + half], -1).reshape(-1, 4)


class Scored(NamedTuple):
    """Anchors of a section with the network's output, all levels together.

    anchors : float tensor, (A, 4)
    logits : float tensor, (A,)
        Objectness.
    deltas : float tensor, (A, 4)
    sizes : list of int
        Number of anchors of each level.
    """

    anchors: Tensor
    logits: Tensor
    deltas: Tensor
    sizes: list[int]


class ProposalHead(nn.Module):
    """Objectness and deltas of the three anchors at each pixel of a level."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        ratios = len(RATIOS)
        # Nested sequences: the names of tensors are those of torchvision.
        self.conv = nn.Sequential(
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True))
        )
        self.cls_logits = nn.Conv2d(channels, ratios, 1)
        self.bbox_pred = nn.Conv2d(channels, 4 * ratios, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, Y, X) to logits (B, Y * X * 3) and deltas (B, Y * X * 3, 4)."""
        x = self.conv(level)
        batch = len(x)
        logits = self.cls_logits(x).permute(0, 2, 3, 1).reshape(batch, -1)
        deltas = self.bbox_pred(x).permute(0, 2, 3, 1).reshape(batch, -1, 4)
        return logits, deltas


class ProposalNetwork(nn.Module):
    """Scores of all anchors of a pyramid.

    Parameters
    ----------
    channels : int
        Of the pyramid.
    strides : sequence of int
        Of each level.
    anchor_scale : float
        Side of anchors in strides.
    """

    def __init__(self, channels: int, strides: Sequence[int], anchor_scale: float) -> None:
        super().__init__()
        self.strides, self.anchor_scale = tuple(strides), anchor_scale
        self.head = ProposalHead(channels)

    def forward(self, levels: Sequence[Tensor]) -> list[Scored]:
        """Levels (B, C, Y, X), finest first, to the scored anchors of each section."""
        anchors, logits, deltas = [], [], []
        for level, stride in zip(levels, self.strides, strict=True):
            height, width = level.shape[-2:]
            anchors.append(anchors_of((height, width), stride, stride * self.anchor_scale))
            scores, moves = self.head(level)
            logits.append(scores)
            deltas.append(moves)
        sizes = [len(part) for part in anchors]
        everywhere = torch.cat(anchors).to(levels[0].device)
        each = zip(torch.cat(logits, 1), torch.cat(deltas, 1), strict=True)
        return [Scored(everywhere, *outputs, sizes) for outputs in each]


@torch.no_grad()
def proposals(scored: Scored, shape: tuple[int, int], density: float, threshold: float) -> Tensor:
    """The best boxes of a section, without duplicates, best first.

    Parameters
    ----------
    scored : Scored
    shape : two int
        Pixels y, x of the section.
    density : float
        At most this many boxes per pixel of the section are returned, and twice as many of each
        level are compared.
    threshold : float
        Intersection over union above which a box is a duplicate, 0 to 1.

    Returns
    -------
    float tensor, (P, 4)
    """
    limit = max(1, round(density * shape[0] * shape[1]))
    chosen, first = [], 0
    for size in scored.sizes:
        chosen.append(best_first(scored.logits[first : first + size])[: 2 * limit] + first)
        first += size
    index = torch.cat(chosen)
    boxes = clipped(decode(scored.deltas[index], scored.anchors[index]), shape)
    large = ((boxes[:, 2:] - boxes[:, :2]) >= LEAST_SIDE).all(1)
    boxes, scores = boxes[large], scored.logits[index][large]
    return boxes[keep_best(boxes, scores, threshold, limit)]
