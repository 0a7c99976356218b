"""Any volume as Neuroglancer's precomputed, chunk by chunk as they are asked for; nothing is kept.

For what Neuroglancer does not read as it stands: TIFF, PNG sections and HDF5, and volumes whose
declaration says how their numbers are meant (other channels, floats, a resolution of their own).
Chunks are raw. As in `precomputed`, axes are x, y, z only in what is sent.
"""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import BinaryIO

import numpy as np

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, Triple, zyx
from volflow.errors import StorageError
from volflow.io.address import CHUNKED
from volflow.io.formats.precomputed import DTYPES, SEGMENTATIONS, scale_entry, scale_key
from volflow.io.formats.stored_array import Layout, Resolution
from volflow.io.volume import Volume

CHUNK: Triple = (64, 64, 64)
SECTIONS: Triple = (8, 256, 256)  # of stacks, where all of a section is read for any part of it
_NARROWER = {"bool": "uint8", "float64": "float32", "float16": "float32"}
_CHUNK_NAME = re.compile("_".join([r"(-?\d{1,18})-(-?\d{1,18})"] * 3))


class Translated:
    """A volume as the keys of a precomputed one.

    Parameters
    ----------
    spec : VolumeSpec
        Where it is and what its numbers mean.
    kind : str
        segmentation, or anything else for an image.
    resolution : tuple of float
        Nanometres per voxel, z y x, where the volume does not tell.

    Raises
    ------
    StorageError
        If it cannot be opened, or Neuroglancer shows no such numbers.
    """

    def __init__(self, spec: VolumeSpec, kind: str, resolution: Resolution) -> None:
        volumes = scales_of(spec)
        stored = volumes[0].dtype.name
        self.dtype = np.dtype(_NARROWER.get(stored, stored))
        shown = SEGMENTATIONS if kind == "segmentation" else DTYPES
        if self.dtype.name not in shown:
            raise StorageError(
                f"volume {volumes[0].address}: Neuroglancer shows no {kind or 'image'} of "
                f"{stored} (it does of {', '.join(shown)})"
            )
        self._volumes = {}
        self._entries = []
        for volume in volumes:
            layout = self._layout(volume, volume.resolution or resolution)
            self._volumes[scale_key(layout.resolution or resolution)] = (volume, layout)
            self._entries.append(scale_entry(layout))
        self._type = "segmentation" if kind == "segmentation" else "image"
        # h5py and the readers of stacks keep files open that are read by one thread at a time.
        alone = volumes[0].format not in CHUNKED
        self._reading = threading.Lock() if alone else nullcontext()

    def find(self, key: Sequence[str]) -> BinaryIO | None:
        """`info`, or a chunk.

        Raises
        ------
        StorageError
            If it is there, but cannot be read.
        """
        if list(key) == ["info"]:
            return io.BytesIO(json.dumps(self.info()).encode())
        if len(key) != 2 or key[0] not in self._volumes:
            return None
        volume, layout = self._volumes[key[0]]
        box = chunk_box(layout, key[1])
        if box is None:
            return None
        with self._reading:
            voxels = volume.read(box)
        return io.BytesIO(np.ascontiguousarray(voxels.astype(self.dtype, copy=False)).tobytes())

    def info(self) -> dict[str, object]:
        """What a precomputed volume of these voxels would say of itself."""
        first = next(iter(self._volumes.values()))[0]
        return {
            "@type": "neuroglancer_multiscale_volume",
            "type": self._type,
            "data_type": self.dtype.name,
            "num_channels": max(1, first.channels),
            "scales": self._entries,
        }

    def _layout(self, volume: Volume, resolution: Resolution) -> Layout:
        sectioned = volume.format not in CHUNKED and volume.chunk[0] == 1
        sides = zip(SECTIONS if sectioned else CHUNK, volume.bounds.shape, strict=True)
        chunk = zyx([min(side, length) for side, length in sides])
        return Layout(
            volume.bounds, resolution, self.dtype, volume.channels, chunk, encoding="raw"
        )  # fmt: skip


def scales_of(spec: VolumeSpec) -> list[Volume]:
    """The scales of a volume, from the one that its declaration names on, finest first.

    A declared resolution or offset is that of one scale, so then there is only that one.
    """
    first = Volume.open(spec)
    if spec.resolution is not None or spec.offset is not None:
        return [first]
    later = range(spec.level + 1, first.scales)
    return [first, *(Volume.open(spec.model_copy(update={"level": level})) for level in later)]


def chunk_box(layout: Layout, name: str) -> Box | None:
    """The box of a chunk's name; None if there is no such chunk."""
    found = _CHUNK_NAME.fullmatch(name)
    if not found:
        return None
    numbers = [int(number) for number in found.groups()]
    box = Box(zyx(numbers[0::2][::-1]), zyx(numbers[1::2][::-1]))
    bounds = layout.bounds
    for start, first, side in zip(box.start, bounds.start, layout.chunk, strict=True):
        if (start - first) % side:
            return None
    stop = box.start + layout.chunk
    whole = Box(box.start, stop).clip(bounds)
    return box if box.size and whole == box else None
