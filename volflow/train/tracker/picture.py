"""A picture of detections next to the truth, as a PNG file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from volflow.models.detector.inference import BoxDetector
from volflow.train.data.samples import Source
from volflow.train.tracker.objects import objects_of
from volflow.train.validation.picture import GAP, side_by_side, write_rows

TRUE, DETECTED = (80, 220, 80), (255, 160, 40)  # colours of outlines, red green blue


def draw_boxes(
    path: Path,
    sources: Sequence[Source],
    detector: BoxDetector,
    least_area: int,
    least_score: float,
) -> None:
    """Write a PNG of middle sections, one row per source: boxes of the truth, and detections.

    Parameters
    ----------
    path : Path
    sources : sequence of Source
    detector : BoxDetector
    least_area : int
        Minimum area of an object, pixels.
    least_score : float
        Minimum score of a detection.
    """
    rows = []
    for source in sources:
        middle = len(source.image) // 2
        section = source.image[middle]
        boxes, scores, _ = detector.detect(section)
        objects = objects_of(source.truth[middle], least_area)
        panels = [
            outlined(section, objects.boxes, TRUE),
            outlined(section, boxes[scores >= least_score], DETECTED),
        ]
        rows.append(side_by_side(panels, np.full((len(section), GAP, 3), 255, np.uint8)))
    write_rows(path, rows)


def outlined(section: np.ndarray, boxes: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """A section in grey with the outlines of boxes.

    Parameters
    ----------
    section : float32, (Y, X)
        Intensities from -1 to 1.
    boxes : float, (N, 4)
        y0, x0, y1, x1 within the section.
    colour : three int

    Returns
    -------
    uint8, (Y, X, 3)
    """
    grey = np.clip((section + 1) * 127.5, 0, 255).astype(np.uint8)
    picture = np.repeat(grey[:, :, None], 3, axis=2)
    height, width = section.shape
    for y0, x0, y1, x1 in np.rint(boxes).astype(int):
        last_y, last_x = min(y1, height) - 1, min(x1, width) - 1
        picture[y0 : last_y + 1, [x0, last_x]] = colour
        picture[[y0, last_y], x0 : last_x + 1] = colour
    return picture
