"""The overview of a run: its segments over its image, in three planes through the middle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import imagecodecs
import numpy as np

from volflow.io.formats.stored_array import Resolution
from volflow.io.volume import Volume
from volflow.view.neuroglancer.layers import RunLayer, RunLayers
from volflow.view.report.planes import Frame, sample

SIDE = 640  # pixels along the longest side of the volume
ENLARGED = 4.0  # a small volume's voxel is at most so many pixels
GAP = 6  # pixels between planes
OPACITY = 0.45
BACKGROUND = 24


@dataclass(frozen=True)
class Overview:
    """A picture and what it shows.

    Parameters
    ----------
    pixels : uint8 array, (H, W, 3)
    pixel_nm : float
        Side of a pixel.
    middle : tuple of int
        The voxel z, y, x that all three planes go through.
    image, labels : str
        Names of the layers shown; empty where there is none.
    """

    pixels: np.ndarray
    pixel_nm: float
    middle: tuple[int, int, int]
    image: str
    labels: str

    def png(self) -> bytes:
        """The picture as a PNG file."""
        return bytes(imagecodecs.png_encode(self.pixels, level=4))


def overview(run: RunLayers) -> Overview | None:
    """Draw a run: grey from `em` or the mean affinity, colour from its segments.

    It reads three planes at the scale that fits the picture. Of several segmentations the one
    called `segmentation`, or else that which was written last, is shown, if there is anything in
    it yet.

    Returns
    -------
    Overview or None
        None if there is neither image nor segmentation.
    """
    image = run.first("image", "em") or run.first("affinity", "affinity")
    candidates = run.of_kind("segmentation")
    candidates.sort(key=lambda layer: layer.name != "segmentation")
    anchor = candidates[0] if candidates else image
    if anchor is None:
        return None
    volume = anchor.scales[0]
    frames = list(mid_planes(volume, volume.resolution or run.resolution))
    labels, drawn = _labels(run, candidates, frames)
    greys = _greys(run, image, frames)
    parts = [overlay(grey, found) for grey, found in zip(greys, drawn, strict=True)]
    z, y, x = ((a + b) // 2 for a, b in zip(volume.bounds.start, volume.bounds.stop, strict=True))
    return Overview(
        arranged(parts),
        frames[0].pixel_nm,
        (z, y, x),
        image.name if image else "",
        labels.name if labels else "",
    )


def mid_planes(volume: Volume, resolution: Resolution) -> Iterator[Frame]:
    """The planes across z, y and x through the middle, all in the same pixels."""
    bounds = volume.bounds
    start = [a * r for a, r in zip(bounds.start, resolution, strict=True)]
    extent = [n * r for n, r in zip(bounds.shape, resolution, strict=True)]
    pixel = max(max(extent) / SIDE, min(resolution) / ENLARGED)
    for axis in range(3):
        middle = ((bounds.start[axis] + bounds.stop[axis]) // 2 + 0.5) * resolution[axis]
        first, second = (other for other in range(3) if other != axis)
        shape = (max(1, round(extent[first] / pixel)), max(1, round(extent[second] / pixel)))
        yield Frame(axis, middle, (start[first], start[second]), pixel, shape)


def arranged(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The three planes as an engineer draws them: each edge beside the one it shares.

    ```
    z plane | x plane        y across, x along | y across, z along
    y plane |                z across, x along |
    ```
    """
    across_z, across_y, across_x = parts
    across_x = across_x.transpose(1, 0, 2)  # (Y, Z): beside the z plane, whose rows are y
    height = across_z.shape[0] + GAP + across_y.shape[0]
    width = across_z.shape[1] + GAP + across_x.shape[1]
    page = np.full((height, width, 3), BACKGROUND, np.uint8)
    page[: across_z.shape[0], : across_z.shape[1]] = across_z
    page[: across_x.shape[0], across_z.shape[1] + GAP :] = across_x
    page[across_z.shape[0] + GAP :, : across_y.shape[1]] = across_y
    return page


def overlay(grey: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels in colour over grey; their borders are strong, 0 is clear.

    Parameters
    ----------
    grey : uint8 array, (H, W)
    labels : integer array, (H, W)

    Returns
    -------
    uint8 array, (H, W, 3)
    """
    base = np.repeat(grey[..., np.newaxis], 3, axis=-1).astype(np.float32)
    colour = colours(labels).astype(np.float32)
    opacity = np.where(borders(labels), 0.95, OPACITY).astype(np.float32)
    opacity = (opacity * (labels != 0))[..., np.newaxis]
    mixed: np.ndarray = np.rint(base * (1 - opacity) + colour * opacity)
    return mixed.astype(np.uint8)


def borders(labels: np.ndarray) -> np.ndarray:
    """Whether the pixel below or to the right has another label; boolean, of the same shape."""
    found = np.zeros(labels.shape, bool)
    found[:-1] |= labels[:-1] != labels[1:]
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    return found


def colours(labels: np.ndarray) -> np.ndarray:
    """A colour for each label, the same in every picture; uint8, with a last axis of 3.

    The hue is a hash of the id, because ids of neighbours are neighbouring numbers: the mixing
    of splitmix64 (Steele, Lea, Flood, Fast Splittable Pseudorandom Number Generators, 2014).
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
    found: np.ndarray = np.stack([value * (pale + (1 - pale) * s) for s in shares], axis=-1)
    return found.round().astype(np.uint8)


# --- what is read --------------------------------------------------------------------------------


def _labels(
    run: RunLayers, candidates: Sequence[RunLayer], frames: Sequence[Frame]
) -> tuple[RunLayer | None, list[np.ndarray]]:
    """The first segmentation in which there is anything, and its planes."""
    for layer in candidates:
        planes = [_plane(layer, run.resolution, frame) for frame in frames]
        if any(plane.any() for plane in planes):
            return layer, planes
    return None, [np.zeros(frame.shape, np.uint64) for frame in frames]


def _greys(run: RunLayers, image: RunLayer | None, frames: Sequence[Frame]) -> list[np.ndarray]:
    """The planes of an image (of several channels their mean), 1 % darkest black to 1 % white."""
    if image is None:
        return [np.full(frame.shape, BACKGROUND, np.uint8) for frame in frames]
    planes = [_plane(image, run.resolution, frame).astype(np.float32) for frame in frames]
    planes = [plane.mean(axis=0) if plane.ndim == 3 else plane for plane in planes]
    values = np.concatenate([plane.ravel() for plane in planes])
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, [1, 99]) if values.size else (0.0, 1.0)
    return [stretched(plane, float(low), float(high)) for plane in planes]


def stretched(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values from `low` to `high` as uint8 from 0 to 255; NaN is black."""
    inside = np.clip(np.nan_to_num(plane, nan=low).astype(np.float64), low, high)
    grey: np.ndarray = (inside - low) * (255 / max(high - low, 1e-6))
    return grey.round().astype(np.uint8)


def _plane(layer: RunLayer, resolution: Resolution, frame: Frame) -> np.ndarray:
    return sample(layer.scales, resolution, frame)
