"""Number and sizes of the segments of a run, counted at a scale that is quick to read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from volflow.view.layers import LayerSet, StoredLayer

VOXELS = 8 << 20  # labels that are read: 64 MiB of uint64


@dataclass(frozen=True)
class SegmentSizes:
    """Segments of a layer and their sizes.

    Parameters
    ----------
    layer : str
        Name of the segmentation.
    number : int
        Number of segments; 0, the background, is none.
    median, largest : float
        Sizes, in `unit`.
    unit : str
        `µm³`, or `voxels` where the resolution is not known.
    background : float
        Share of the voxels that have label 0.
    largest_share : float
        Share of the voxels in the largest segment.
    mean_voxels : float
        Mean size in voxels of the finest scale.
    voxel_nm : 3 float or None
        Side of the voxels counted, z y x, if they are coarser than those of the finest scale:
        segments that are smaller may be missing.
    """

    layer: str
    number: int
    median: float
    largest: float
    unit: str
    background: float
    largest_share: float
    mean_voxels: float
    voxel_nm: tuple[float, float, float] | None

    def sentence(self) -> str:
        """The sizes as one sentence."""
        text = (
            f"median size {self.median:.3g} {self.unit}, largest {self.largest:.3g} {self.unit}, "
            f"{self.largest_share:.1%} of the volume; {self.background:.1%} is background"
        )
        if self.voxel_nm is None:
            return text
        sides = " x ".join(f"{side:g}" for side in self.voxel_nm)
        return f"{text}; counted in voxels of {sides} nm, so very small segments may be missing"


def segment_sizes(layers: LayerSet) -> SegmentSizes | None:
    """Count the segments of a run's own segmentation.

    Returns
    -------
    SegmentSizes or None
        None if the run wrote no segmentation, or every scale of it is larger than `VOXELS`.
    """
    layer = layers.first("segmentation", "segmentation")
    if layer is None or not layer.written:
        return None
    return count_segments(layers, layer)


def count_segments(layers: LayerSet, layer: StoredLayer) -> SegmentSizes | None:
    """The sizes at the finest scale that is not too large; None if every one is."""
    for number, volume in enumerate(layer.scales):
        if volume.bounds.size > VOXELS:
            continue
        ids, counts = np.unique(volume.read(volume.bounds), return_counts=True)
        background = int(counts[ids == 0].sum())
        counts = counts[ids != 0]
        sides = volume.resolution or layers.known_resolution
        size = math.prod(sides) * 1e-9 if sides else 1.0
        whole, finest = max(1, volume.bounds.size), layer.scales[0].bounds.size
        return SegmentSizes(
            layer.name,
            len(counts),
            float(np.median(counts)) * size if len(counts) else 0.0,
            float(counts.max()) * size if len(counts) else 0.0,
            "µm³" if sides else "voxels",
            background / whole,
            float(counts.max()) / whole if len(counts) else 0.0,
            float(counts.mean()) * finest / whole if len(counts) else 0.0,
            sides if number else None,
        )
    return None
