"""Grey images and coloured labels as RGB pixels."""

from __future__ import annotations

import numpy as np

OPACITY, BORDER_OPACITY = 0.45, 0.95  # of a label's inside and of its border


def overlay(grey: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels in colour over a grey image; borders are nearly opaque, label 0 is transparent.

    Parameters
    ----------
    grey : uint8 array, (H, W)
    labels : integer array, (H, W)

    Returns
    -------
    uint8 array, (H, W, 3)
    """
    base = grey_to_rgb(grey).astype(np.float32)
    colours = label_colours(labels).astype(np.float32)
    opacity = np.where(label_borders(labels), BORDER_OPACITY, OPACITY).astype(np.float32)
    opacity = (opacity * (labels != 0))[..., np.newaxis]
    mixed: np.ndarray = np.rint(base * (1 - opacity) + colours * opacity)
    return mixed.astype(np.uint8)


def grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    """A grey image with a last axis of three equal channels."""
    return np.repeat(grey[..., np.newaxis], 3, axis=-1)


def label_borders(labels: np.ndarray) -> np.ndarray:
    """Whether the pixel below or to the right has another label.

    Parameters
    ----------
    labels : integer array, (H, W)

    Returns
    -------
    bool array, (H, W)
    """
    borders = np.zeros(labels.shape, bool)
    borders[:-1] |= labels[:-1] != labels[1:]
    borders[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return borders


def label_colours(labels: np.ndarray) -> np.ndarray:
    """A colour for each label, the same in every picture.

    The hue is a hash of the id, because neighbouring segments have neighbouring ids.

    Parameters
    ----------
    labels : integer array, any shape

    Returns
    -------
    uint8 array, (..., 3)

    References
    ----------
    The hash is the mixing function of splitmix64: Steele, Lea and Flood, Fast Splittable
    Pseudorandom Number Generators, OOPSLA 2014.
    """
    with np.errstate(over="ignore"):
        mixed = labels.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    hue = (mixed & np.uint64(0xFFFF)).astype(np.float32) * (6 / 0x10000)
    value = 170 + (mixed >> np.uint64(16) & np.uint64(0x3F)).astype(np.float32)
    pale = 0.25 * (mixed >> np.uint64(32) & np.uint64(0xFF)).astype(np.float32) / 0xFF
    red, green, blue = np.abs(hue - 3) - 1, 2 - np.abs(hue - 2), 2 - np.abs(hue - 4)
    shares = [np.clip(share, 0, 1) for share in (red, green, blue)]
    colours: np.ndarray = np.stack([value * (pale + (1 - pale) * s) for s in shares], axis=-1)
    return colours.round().astype(np.uint8)


def stretch_contrast(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values from `low` (black, 0) to `high` (white, 255) as uint8; NaN is black."""
    inside = np.clip(np.nan_to_num(plane, nan=low).astype(np.float64), low, high)
    grey: np.ndarray = (inside - low) * (255 / max(high - low, 1e-6))
    return grey.round().astype(np.uint8)
