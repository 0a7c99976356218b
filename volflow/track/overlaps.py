"""Pixels that several objects claim: one owner each, and probabilities that exclude others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

LEAST = 1e-6  # probabilities closer to 0 or 1 than this count as this


class Claims(NamedTuple):
    """The pixels of a section, divided among objects.

    Attributes
    ----------
    owner : int32, (Y, X)
        1 + the number of the object with the largest odds; 0 where the background has larger ones.
    shares : list of float64, (H, W)
        Probability of each object in its window, given that a pixel has one owner at most.
    """

    owner: np.ndarray
    shares: list[np.ndarray]


def divided(
    masks: Sequence[np.ndarray], origins: Sequence[tuple[int, int]], shape: tuple[int, int]
) -> Claims:
    """Divide the pixels of a section among objects whose masks were computed independently.

    The odds of an object are p / (1 - p). The background has the probability that no object is
    there, the product of all 1 - p. A pixel belongs to the largest odds; of equal ones the
    background comes first, then the objects in the order given.

    Parameters
    ----------
    masks : sequence of float, (H, W)
        Probability of each object in its window.
    origins : sequence of (int, int)
        y and x of each window; it may reach beyond the section.
    shape : (int, int)
        Sides of the section.

    References
    ----------
    Oh et al., Video Object Segmentation using Space-Time Memory Networks, ICCV 2019, soft
    aggregation of several objects. II-CATS does not describe its own.
    """
    background = np.ones(shape)
    total = np.zeros(shape)
    odds: list[tuple[tuple[slice, slice], tuple[slice, slice], np.ndarray]] = []
    for mask, origin in zip(masks, origins, strict=True):
        here, inside = windows(origin, mask.shape, shape)
        probability = np.clip(mask[inside].astype(np.float64), LEAST, 1 - LEAST)
        background[here] *= 1 - probability
        odds.append((here, inside, probability / (1 - probability)))
        total[here] += odds[-1][2]
    background = np.clip(background, LEAST, 1 - LEAST)
    best = background / (1 - background)
    total += best
    owner = np.zeros(shape, np.int32)
    shares = []
    for number, (mask, (here, inside, own)) in enumerate(zip(masks, odds, strict=True), 1):
        larger = own > best[here]
        owner[here][larger] = number
        best[here][larger] = own[larger]
        share = np.zeros(mask.shape)
        share[inside] = own / total[here]
        shares.append(share)
    return Claims(owner, shares)


def windows(
    origin: tuple[int, int], sides: tuple[int, ...], shape: tuple[int, int]
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of the part of a window inside a section: in the section, and in the window."""
    here, inside = [], []
    for first, side, length in zip(origin, sides, shape, strict=True):
        start, stop = min(max(first, 0), length), max(min(first + side, length), 0)
        stop = max(start, stop)
        here.append(slice(start, stop))
        inside.append(slice(start - first, stop - first))
    return (here[0], here[1]), (inside[0], inside[1])
