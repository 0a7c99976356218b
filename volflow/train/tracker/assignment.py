"""Assignment of boxes to objects, and samples of them; every random choice has its generator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from volflow.models.detector.boxes import overlaps

IGNORED = -2
NEGATIVE = -1


def assigned(
    boxes: Tensor,
    objects: Tensor,
    positive: float,
    negative: float,
    at_least: float | None = None,
) -> Tensor:
    """The object of each box, by overlap.

    Parameters
    ----------
    boxes, objects : float tensor, (N, 4) and (M, 4)
    positive : float
        Minimum overlap (intersection over union) of a positive box with its object.
    negative : float
        Below this overlap with all objects, a box is a negative one.
    at_least : float, optional
        The boxes that overlap an object most are positive as well if they overlap it this much;
        default: they are not.

    Returns
    -------
    int64 tensor, (N,)
        Index of an object, -1 (negative) or -2 (between both, to be ignored).
    """
    if not len(objects):
        return torch.full((len(boxes),), NEGATIVE, device=boxes.device)
    shared = overlaps(boxes, objects)
    best, index = shared.max(1)
    chosen = torch.where(best >= positive, index, IGNORED)
    chosen[best < negative] = NEGATIVE
    if at_least is not None and len(boxes):
        most = shared.max(0).values
        as_good = (shared == most) & (most >= at_least)  # ties included, as in the reference
        has = as_good.any(1)
        chosen[has] = as_good[has].to(torch.uint8).argmax(1)
    return chosen


def sampled(
    chosen: Tensor, count: int, positives: float, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Random positive and negative boxes.

    Parameters
    ----------
    chosen : int64 tensor, (N,)
        See `assigned`.
    count : int
        Number of boxes in all; fewer if there are not as many.
    positives : float
        Maximum fraction of positive ones, 0 to 1; negative ones fill up.
    rng : Generator

    Returns
    -------
    int64 tensor, (P,), int64 tensor, (Q,)
        Indices of positive and of negative boxes, ascending.
    """
    labels = chosen.cpu().numpy()
    positive = _some(np.flatnonzero(labels >= 0), round(count * positives), rng)
    negative = _some(np.flatnonzero(labels == NEGATIVE), count - len(positive), rng)
    return (
        torch.from_numpy(positive).to(chosen.device),
        torch.from_numpy(negative).to(chosen.device),
    )


def balanced(chosen: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    """Random positive boxes, about equally many of each object.

    Parameters
    ----------
    chosen : int64 tensor, (N,)
        See `assigned`.
    count : int
        Maximum number of boxes.
    rng : Generator

    Returns
    -------
    int64 tensor, (P,)
        Indices, ascending.
    """
    labels = chosen.cpu().numpy()
    places = rng.permutation(np.flatnonzero(labels >= 0))
    # the n-th box of each object comes before the n+1-th of any
    order = np.argsort(labels[places], kind="stable")
    runs = labels[places][order]
    starts = np.flatnonzero(np.r_[True, runs[1:] != runs[:-1]]) if len(runs) else np.zeros(0, int)
    turn = np.empty(len(places), np.int64)
    turn[order] = np.arange(len(runs)) - np.repeat(starts, np.diff(np.r_[starts, len(runs)]))
    first = places[np.argsort(turn, kind="stable")][:count]
    return torch.from_numpy(np.sort(first)).to(chosen.device)


def _some(places: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """At most so many random places, ascending."""
    if len(places) > count:
        places = np.sort(rng.choice(places, count, replace=False))
    return places
