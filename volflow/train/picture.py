"""A picture of a prediction beside the truth: one section, three panels."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np

from volflow.train.samples import Source


def draw_picture(path: Path, source: Source, affinity: np.ndarray) -> None:
    """Write a PNG of the middle section: image, affinities z y x as red green blue, truth.

    Parameters
    ----------
    path : Path
    source : Source
    affinity : uint8, (at least 3, Z, Y, X)
    """
    middle = source.image.shape[0] // 2
    grey = np.clip((source.image[middle] + 1) * 127.5, 0, 255).astype(np.uint8)
    image = np.repeat(grey[..., None], 3, axis=2)
    predicted = np.moveaxis(affinity[:3, middle], 0, -1)
    truth = _colours(source.truth[middle])
    gap = np.full((grey.shape[0], 4, 3), 255, np.uint8)
    panels = np.concatenate([image, gap, predicted, gap, truth], axis=1)
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(panels)))


def _colours(labels: np.ndarray) -> np.ndarray:
    """A colour for each label, the same in every picture; what is no object is black."""
    mixed = labels.astype(np.uint32) * np.uint32(2654435761)
    channels = [(mixed >> np.uint32(shift)) & np.uint32(0xFF) for shift in (8, 16, 24)]
    coloured = np.stack(channels, axis=-1).astype(np.uint8) // 2 + 96
    coloured[labels <= 0] = 0
    return coloured
