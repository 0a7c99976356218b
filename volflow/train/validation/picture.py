"""Pictures of predictions next to the truth, as PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import imagecodecs
import numpy as np

from volflow.train.data.samples import Source

GAP = 4  # pixels of white between panels


def draw_picture(
    path: Path, sources: Sequence[Source], predictions: Sequence[dict[str, np.ndarray]]
) -> None:
    """Write a PNG of middle sections, one row per source: image, each head, labels, masks.

    A head with three or more channels shows the first three as red, green and blue (affinities
    z, y, x); one with fewer shows its first channel in grey.

    Parameters
    ----------
    path : Path
    sources : sequence of Source
    predictions : sequence of dict of str to uint8 array, (C, Z, Y, X)
        The predictions of each source, by head.
    """
    write_rows(
        path, [_row(source, heads) for source, heads in zip(sources, predictions, strict=True)]
    )


def write_rows(path: Path, rows: Sequence[np.ndarray]) -> None:
    """Write a PNG of rows, uint8 (Y, X, 3) each, one above another."""
    width = max(row.shape[1] for row in rows)
    parts = []
    for row in rows:
        parts.append(np.pad(row, [(0, 0), (0, width - row.shape[1]), (0, 0)], constant_values=255))
        parts.append(np.full((GAP, width, 3), 255, np.uint8))
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(np.concatenate(parts[:-1]))))


def draw_reconstruction(
    path: Path,
    *,
    image: np.ndarray,
    masked: np.ndarray,
    edges: np.ndarray,
    prediction: np.ndarray,
) -> None:
    """Write a grey PNG of a crop's middle section, as pretraining sees it.

    From left to right: the image, its masked version, the predicted image, its edges, the
    predicted edges.

    Parameters
    ----------
    path : Path
    image, masked, edges : float32 array, (Z, Y, X)
        Intensities of `image` and `masked` are in [-1, 1]; edges are at least 0.
    prediction : float32 array, (2, Z, Y, X)
        Image and edges.
    """
    middle = len(image) // 2
    brightest = max(float(edges[middle].max()), 1e-6)
    panels = [(volume[middle] + 1) * 127.5 for volume in (image, masked, prediction[0])]
    panels += [volume[middle] / brightest * 255 for volume in (edges, prediction[1])]
    joined = side_by_side(panels, np.full((image.shape[1], GAP), 255.0))
    path.write_bytes(imagecodecs.png_encode(np.clip(joined, 0, 255).astype(np.uint8)))


def side_by_side(panels: Sequence[np.ndarray], gap: np.ndarray) -> np.ndarray:
    """Panels joined along x with a gap between them."""
    return np.concatenate([part for panel in panels for part in (panel, gap)][:-1], axis=1)


def _row(source: Source, heads: dict[str, np.ndarray]) -> np.ndarray:
    """The panels of one source, uint8 (Y, X', 3)."""
    middle = source.image.shape[0] // 2
    grey = np.clip((source.image[middle] + 1) * 127.5, 0, 255).astype(np.uint8)
    panels = [_coloured(grey[None]), *(_coloured(head[:, middle]) for head in heads.values())]
    if (source.truth > 0).any():
        panels.append(_labels(source.truth[middle]))
    if len(source.marks):
        known = np.where(source.marks[:, middle] == 1, 255, 0) * (source.marks[:, middle] <= 1)
        panels.append(_coloured(known.astype(np.uint8)))
    return side_by_side(panels, np.full((grey.shape[0], GAP, 3), 255, np.uint8))


def _coloured(channels: np.ndarray) -> np.ndarray:
    """The first three channels, uint8 (C, Y, X), as red green blue; the first in grey if fewer."""
    shown = channels[:3] if len(channels) > 2 else np.repeat(channels[:1], 3, axis=0)
    return np.moveaxis(shown, 0, -1)


def _labels(labels: np.ndarray) -> np.ndarray:
    """A colour for each label, the same in every picture; background and unknown are black."""
    mixed = labels.astype(np.uint32) * np.uint32(2654435761)
    channels = [(mixed >> np.uint32(shift)) & np.uint32(0xFF) for shift in (8, 16, 24)]
    coloured = np.stack(channels, axis=-1).astype(np.uint8) // 2 + 96
    coloured[labels <= 0] = 0
    return coloured
