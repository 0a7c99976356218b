"""A segmentation of which every error is known, its truth and image, and skeletons."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box
from volflow.core.skeleton import Skeleton
from volflow.core.stage import Layer
from volflow.io.skeletons.sets import write_skeletons
from volflow.io.volume import Volume

BOX = Box((8, 0, 16), (24, 32, 64))
RESOLUTION = (40.0, 8.0, 8.0)
FIRST = 1 << 60  # beyond what JavaScript counts to
MERGED, LEFT, RIGHT, REST = (FIRST + n for n in range(4))


def arrays() -> dict[str, np.ndarray]:
    """Objects 1 to 4, a quarter of y each; 1 and 2 are merged, 3 is split at x = 40.

    There are two voxels without truth between the objects, and voxel (0, 0, 0) of object 4 is
    lost in the merger, so that some part of it is very small.
    """
    y, x = np.indices(BOX.shape)[1:]
    truth = np.where(y % 8 < 6, 1 + y // 8, 0).astype("uint64")
    actual = np.full(BOX.shape, REST, "uint64")
    actual[:, :16] = MERGED
    actual[:, 16:24] = LEFT
    actual[(y // 8 == 2) & (x + BOX.start[2] >= 40)] = RIGHT
    em = np.where(truth > 0, 150 + (x % 16), 30).astype("uint8")
    return {"truth": truth, "segmentation": actual, "em": em}


def written(address: str, array: np.ndarray, box: Box = BOX) -> str:
    kind = "segmentation" if array.dtype == "uint64" else "image"
    layer = Layer(array.dtype.name, 0, kind)
    volume, _ = Volume.create(VolumeSpec(path=address), layer, box, RESOLUTION, (16, 16, 16))
    volume.write(box, array)
    return address


def addresses(folder: Path) -> dict[str, str]:
    """The volumes, written below a folder."""
    return {
        name: written(f"precomputed://{folder}/{name}", array) for name, array in arrays().items()
    }


def options(places: dict[str, str]) -> list[str]:
    """Options of `volflow score` for these volumes."""
    names = {"segmentation": "segmentation", "truth": "truth", "em": "image"}
    return [text for name, place in places.items() for text in (f"--{names[name]}", place)]


def skeletons(folder: Path) -> str:
    """A straight one through each object, a node every 4 voxels."""
    x = np.arange(BOX.start[2], BOX.stop[2], 4)
    lines = []
    for number in range(4):
        place = np.stack([np.full(len(x), 16), np.full(len(x), 8 * number + 3), x], axis=1)
        parent = np.arange(len(x)) - 1
        lines.append(
            Skeleton(number + 1, place * np.array(RESOLUTION), parent, np.full(len(x), 20.0))
        )
    address = f"swc://{folder}/skeletons"
    write_skeletons(address, lines)
    return address
