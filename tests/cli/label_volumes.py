"""Small volumes of labels, written where a test wants them."""

from __future__ import annotations

import numpy as np

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.stage import Layer
from volflow.io.volume import Volume

BOX = Box((3, 0, 5), (33, 41, 42))


def written(address: str, array: np.ndarray, box: Box = BOX) -> str:
    kind = "segmentation" if array.dtype == "uint64" else "image"
    layer = Layer(array.dtype.name, 0, kind)
    volume, _ = Volume.create(VolumeSpec(path=address), layer, box, (40, 8, 8), (16, 16, 16))
    volume.write(box, array)
    return address
