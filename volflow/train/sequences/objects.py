"""Objects of labels in 3D, as they are followed from section to section."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

EIGHT = np.ones((3, 3), bool)
"""Pixels that touch at a corner are connected."""


def section_objects(labels: np.ndarray, least_area: int) -> list[np.ndarray]:
    """The connected pieces of all labels of a section, bool (Y, X) each.

    Parameters
    ----------
    labels : int (Y, X)
        Above 0 an object.
    least_area : int
        Minimum area of a piece, pixels.
    """
    pieces = []
    for label in np.unique(labels[labels > 0]):
        numbers, count = ndimage.label(labels == label, EIGHT)
        areas = np.bincount(numbers.ravel(), minlength=count + 1)
        pieces += [numbers == n for n in range(1, count + 1) if areas[n] >= least_area]
    return pieces


def followed(labels: np.ndarray, first: np.ndarray) -> np.ndarray:
    """An object followed through sections: the pieces of its label that touch it.

    A label that leaves and enters again is another object: a network sees no more of it than the
    piece that it followed.

    Parameters
    ----------
    labels : int (S, Y, X)
        Consecutive sections.
    first : bool (Y, X)
        A piece of one label in the first section.

    Returns
    -------
    bool (S, Y, X)
    """
    label = labels[0][first][0]
    masks = np.zeros(labels.shape, bool)
    masks[0] = first
    for n in range(1, len(labels)):
        if not masks[n - 1].any():
            break
        numbers, _ = ndimage.label(labels[n] == label, EIGHT)
        touching = np.unique(numbers[ndimage.binary_dilation(masks[n - 1], EIGHT)])
        masks[n] = np.isin(numbers, touching[touching > 0])
    return masks
