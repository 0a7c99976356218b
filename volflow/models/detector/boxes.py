"""Boxes within a section: overlaps, coding, clipping and suppression of duplicates.

A box is y0, x0, y1, x1 in pixels, half-open: its height is y1 - y0.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

MAXIMUM_LOG_RATIO = math.log(1000 / 16)  # of decoded sizes, or exp overflows early in training
GROUP = 512  # boxes compared at once in `keep_best`


def areas(boxes: Tensor) -> Tensor:
    """Areas (N,) of boxes (N, 4), square pixels; 0 for empty ones."""
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    return sides[:, 0] * sides[:, 1]


def overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of all pairs of boxes.

    Parameters
    ----------
    first, second : float tensor, (N, 4) and (M, 4)

    Returns
    -------
    float tensor, (N, M), values in [0, 1]; 0 for two empty boxes
    """
    y0, x0, y1, x1 = first.T[:, :, None]
    to_y0, to_x0, to_y1, to_x1 = second.T[:, None]
    height = torch.minimum(y1, to_y1).sub_(torch.maximum(y0, to_y0)).clamp_(min=0)
    width = torch.minimum(x1, to_x1).sub_(torch.maximum(x0, to_x0)).clamp_(min=0)
    shared = height.mul_(width)
    union = (areas(first)[:, None] + areas(second)[None]).sub_(shared)
    return shared.div_(union.clamp_(min=1e-9))


def clipped(boxes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Boxes (N, 4) clipped to a section of shape Y, X."""
    height, width = shape
    limit = boxes.new_tensor([height, width, height, width])
    return torch.minimum(boxes.clamp(min=0), limit)


def encode(boxes: Tensor, anchors: Tensor, spread: tuple[float, ...] = (1.0,) * 4) -> Tensor:
    """Deltas that move anchors onto boxes; `decode` is the inverse.

    Parameters
    ----------
    boxes, anchors : float tensor, (N, 4)
    spread : four floats
        Deltas are divided by it.

    Returns
    -------
    float tensor, (N, 4)
        Shift along x and y in units of the anchor's sides, logarithms of the ratios of widths and
        of heights. x first: the order of public weights.
    """
    centre, sides = _centres(boxes)
    from_centre, from_sides = _centres(anchors)
    shift = (centre - from_centre) / from_sides
    ratio = (sides / from_sides).log()
    return torch.cat([shift.flip(1), ratio.flip(1)], 1) / boxes.new_tensor(spread)


def decode(deltas: Tensor, anchors: Tensor, spread: tuple[float, ...] = (1.0,) * 4) -> Tensor:
    """The boxes (N, 4) that deltas (N, 4) make of anchors (N, 4); see `encode`."""
    deltas = deltas * deltas.new_tensor(spread)
    centre, sides = _centres(anchors)
    centre = centre + deltas[:, :2].flip(1) * sides
    sides = sides * deltas[:, 2:].flip(1).clamp(max=MAXIMUM_LOG_RATIO).exp()
    return torch.cat([centre - sides / 2, centre + sides / 2], 1)


def _centres(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres and sides (N, 2) of boxes, y and x."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, :2] + sides / 2, sides


def best_first(scores: Tensor) -> Tensor:
    """Indices by descending score; equal scores in their own order."""
    return torch.sort(scores, descending=True, stable=True).indices


def keep_best(boxes: Tensor, scores: Tensor, threshold: float, limit: int | None = None) -> Tensor:
    """Indices of boxes that overlap no better one by more than a threshold, best first.

    Parameters
    ----------
    boxes : float tensor, (N, 4)
    scores : float tensor, (N,)
    threshold : float
        Intersection over union above which the box of lower score is a duplicate, 0 to 1.
    limit : int, optional
        Maximum number of boxes; default: all.

    Returns
    -------
    int64 tensor, (K,)
    """
    order = best_first(scores)
    best: list[Tensor] = []
    survivors = boxes.new_zeros((0, 4))
    for start in range(0, len(order), GROUP):
        group = order[start : start + GROUP]
        candidates = boxes[group]
        free = ~(overlaps(candidates, survivors) > threshold).any(1)
        group, candidates = group[free], candidates[free]
        chosen = torch.from_numpy(_greedy(overlaps(candidates, candidates) > threshold))
        chosen = chosen.to(boxes.device)
        best.append(group[chosen])
        survivors = torch.cat([survivors, candidates[chosen]])
        if limit is not None and len(survivors) >= limit:
            break
    return torch.cat(best)[:limit] if best else order[:0]


def _greedy(duplicates: Tensor) -> np.ndarray:
    """Rows that are no duplicates of an earlier chosen row; bool (N, N) to bool (N,)."""
    pairs = duplicates.cpu().numpy()
    chosen = np.ones(len(pairs), bool)
    for row in range(len(pairs)):
        if chosen[row]:
            chosen[row + 1 :] &= ~pairs[row, row + 1 :]
    return chosen
