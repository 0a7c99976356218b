"""A look at a few boxes of labels for values that other programs write as "not labelled"."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from volflow.config.wiring import Wiring
from volflow.core.geometry import Box, zyx
from volflow.core.stage import Layer
from volflow.engine.plan.declared_volume import DeclaredVolume
from volflow.errors import StorageError
from volflow.io.volume import Volume

LOOK = (16, 64, 64)  # voxels of a box; five boxes are read


def unlabelled_warnings(
    wiring: Wiring, volumes: Mapping[str, Volume | DeclaredVolume], bounds: Box
) -> Iterator[str]:
    """A warning for each volume of labels in which the largest number of its type occurs.

    Only a few boxes are read, so that the value can be there without a warning.
    """
    labels = {
        volume
        for step in wiring.steps
        for name, volume in step.inputs.items()
        if step.stage.wants.get(name, Layer()).kind == "segmentation"
    }
    for name, volume in volumes.items():
        if name not in labels or not isinstance(volume, Volume) or volume.spec.ignore is not None:
            continue
        if volume.dtype.kind != "u":
            continue
        largest = int(np.iinfo(volume.dtype).max)
        if any(_holds(volume, box, largest) for box in _boxes(volume.bounds.clip(bounds))):
            yield (
                f"volumes.{name}: {largest} occurs, the largest {volume.dtype}; if it stands for "
                f"'not labelled', declare volumes.{name}.ignore: {largest} to read it as 0; "
                f"otherwise ignore: []"
            )


def _boxes(bounds: Box) -> Iterator[Box]:
    """Boxes at the first and last corner, and in the centre of the first, middle and last z."""
    size = zyx(LOOK).minimum(bounds.shape)
    low, high = bounds.start, bounds.stop - size
    middle = (low + high) // 2
    centres = [(z, *middle[1:]) for z in (low[0], middle[0], high[0])]
    for start in dict.fromkeys(map(tuple, (low, high, *centres))):
        yield Box(zyx(start), zyx(start) + size)


def _holds(volume: Volume, box: Box, value: int) -> bool:
    try:
        return bool((volume.read(box) == value).any())
    except StorageError:
        return False  # the block that reads it will name the problem
