"""Any volume as Neuroglancer's precomputed format, chunk by chunk on request, without a copy.

For volumes that Neuroglancer does not read itself: files and sections, and volumes whose
declaration changes their numbers (channels, floats, resolution). Chunks are raw. As in
`precomputed`, axes are x, y, z only in what is sent.
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
from volflow.core.geometry import Box, Resolution, Triple, zyx
from volflow.errors import StorageError
from volflow.io.address import CHUNKED
from volflow.io.formats.precomputed import DTYPES, SEGMENTATIONS, scale_entry, scale_key
from volflow.io.formats.stored_array import Layout
from volflow.io.volume import Volume

CHUNK: Triple = (64, 64, 64)
SECTIONS: Triple = (8, 256, 256)  # of sections, which are read whole for any part of them
_NARROWER = {"bool": "uint8", "float64": "float32", "float16": "float32"}
_CHUNK_NAME = re.compile("_".join([r"(-?\d{1,18})-(-?\d{1,18})"] * 3))


class Translated:
    """The objects of a precomputed volume, by key, translated from another one.

    Parameters
    ----------
    spec : VolumeSpec
        Its address, and the meaning of its numbers.
    kind : str
        "segmentation", or any other text for an image.
    resolution : tuple of float
        Nanometres per voxel, z y x, if the volume has none.

    Raises
    ------
    StorageError
        If it cannot be opened, or Neuroglancer does not display its type.
    """

    def __init__(self, spec: VolumeSpec, kind: str, resolution: Resolution) -> None:
        volumes = scales_of(spec)
        stored = volumes[0].dtype.name
        self.dtype = np.dtype(_NARROWER.get(stored, stored))
        shown = SEGMENTATIONS if kind == "segmentation" else DTYPES
        if self.dtype.name not in shown:
            raise StorageError(
                f"volume {volumes[0].address}: Neuroglancer does not display {stored} of a "
                f"{kind or 'image'}; expected {', '.join(shown)}"
            )
        self._volumes = {}
        self._entries = []
        for volume in volumes:
            layout = self._layout(volume, volume.resolution or resolution)
            self._volumes[scale_key(layout.resolution or resolution)] = (volume, layout)
            self._entries.append(scale_entry(layout))
        self._type = "segmentation" if kind == "segmentation" else "image"
        # readers of files share a file handle, which one thread uses at a time
        alone = volumes[0].format not in CHUNKED
        self._reading = threading.Lock() if alone else nullcontext()

    def find(self, key: Sequence[str]) -> BinaryIO | None:
        """The bytes of `info` or of a chunk; None if there is no such object.

        Raises
        ------
        StorageError
            If it exists, but cannot be read.
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
        """The `info` of a precomputed volume of these voxels."""
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
        chunk = zyx(SECTIONS if sectioned else CHUNK).minimum(volume.bounds.shape)
        return Layout(
            volume.bounds, resolution, self.dtype, volume.channels, chunk, encoding="raw"
        )  # fmt: skip


def scales_of(spec: VolumeSpec) -> list[Volume]:
    """The scales of a volume from its declared level on, finest first.

    A chunk that is not written yet reads as zeros. With a declared resolution or offset, which is
    that of one scale, only that one.
    """
    first = Volume.open(spec, partial=True)
    if spec.resolution is not None or spec.offset is not None:
        return [first]
    later = range(spec.level + 1, first.scales)
    factors = {} if spec.downsample is None else {"downsample": first.downsample}
    return [
        first,
        *(
            Volume.open(spec.model_copy(update={"level": n, **factors}), partial=True)
            for n in later
        ),
    ]


def chunk_box(layout: Layout, name: str) -> Box | None:
    """The box that a chunk's name stands for; None if there is no such chunk."""
    match = _CHUNK_NAME.fullmatch(name)
    if not match:
        return None
    numbers = [int(number) for number in match.groups()]
    box = Box(zyx(numbers[0::2][::-1]), zyx(numbers[1::2][::-1]))
    bounds = layout.bounds
    if any((box.start - bounds.start) % layout.chunk):
        return None
    whole = Box(box.start, box.start + layout.chunk).clip(bounds)
    return box if box.size and whole == box else None
