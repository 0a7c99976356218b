"""Foreign numbers made ours: channels chosen, values scaled to uint8, affinities turned round.

Ours join a voxel with the one before it along z, y, x. What is stored may join it with the one
after it, or be a single boundary probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from volflow.config.pipeline import VolumeSpec
from volflow.core.geometry import Box, Triple, zyx
from volflow.errors import StorageError
from volflow.io.formats.stored_array import Layout, StoredArray, placed

_BEFORE = ((-1, 0, 0), (0, -1, 0), (0, 0, -1))


@dataclass(frozen=True)
class Conversion:
    """How what is stored becomes what is read; `channels` 0 is no channel axis."""

    chosen: tuple[int, ...] | None
    scale: float | None
    forward: bool
    boundary: bool
    channels: int
    dtype: np.dtype[Any]

    @property
    def leading(self) -> tuple[int, ...]:
        """The channel axis of the shape, if there is one."""
        return (self.channels,) if self.channels else ()

    def read(
        self, voxels: StoredArray, box: Box, fill: int = 0, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Read any box, into `out` if that is given; what lies outside the bounds is `fill`.

        Raises
        ------
        StorageError
            If a value to be scaled is no number.
        """
        bounds = voxels.layout.bounds
        inside = box.clip(bounds)
        if out is None and inside == box and box.size:
            return self._inside(voxels, box, None)
        if out is None:
            out = _filled((*self.leading, *box.shape), fill, self.dtype)
        elif inside != box:
            out[...] = fill
        if inside.size:
            self._inside(voxels, inside, out[(..., *inside.within(box))])
        return out

    def _inside(self, voxels: StoredArray, box: Box, out: np.ndarray | None) -> np.ndarray:
        """Read a box within the bounds, into `out` if that is given."""
        if self.boundary or self.forward:
            return placed(self._turned(voxels, box, voxels.layout.bounds), out)
        if self.scale is None and (self.chosen is None or self.channels):
            return voxels.read(box, self.chosen, out)
        return placed(self._values(voxels, box), out)

    def _values(self, voxels: StoredArray, box: Box) -> np.ndarray:
        """The chosen channels of a box within the bounds, scaled."""
        values = voxels.read(box, self.chosen)
        if values.ndim == 4 and len(values) == 1 and (self.boundary or self.chosen is not None):
            values = values[0]
        if self.scale is None:
            return values
        wide = np.dtype("float64") if values.dtype.kind != "f" else values.dtype
        scaled = values.astype(max(wide, np.dtype("float32")))
        if np.isnan(scaled).any():
            raise StorageError(f"box {box}: a value to be scaled to uint8 is not a number")
        scaled *= scaled.dtype.type(self.scale)
        np.rint(scaled, out=scaled)
        return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)

    def _turned(self, voxels: StoredArray, box: Box, bounds: Box) -> np.ndarray:
        """Affinities with the voxel before; the first plane of the volume along an axis is 0."""
        wide = Box(box.start - 1, box.stop).clip(bounds)
        values = self._values(voxels, wide)
        out = np.zeros((*self.leading, *box.shape), self.dtype)
        for axis, step in enumerate(_BEFORE):
            start = list(box.start)
            start[axis] = max(start[axis], bounds.start[axis] + 1)
            pairs = Box(zyx(start), box.stop)
            if pairs.size == 0:
                continue
            before = pairs.shift(step).within(wide)
            if self.boundary:
                strongest = np.maximum(values[pairs.within(wide)], values[before])
                out[(axis, *pairs.within(box))] = 255 - strongest
            else:
                out[(axis, *pairs.within(box))] = values[(axis, *before)]
        return out


def _filled(shape: tuple[int, ...], fill: int, dtype: np.dtype[Any]) -> np.ndarray:
    """An array of one value; memory of zeros comes so from the system and is not written twice."""
    return np.full(shape, fill, dtype) if fill else np.zeros(shape, dtype)


def conversion(spec: VolumeSpec, layout: Layout, own: bool) -> Conversion:
    """What has to be done to a volume so that it is as its declaration says.

    Raises
    ------
    StorageError
        If the declaration does not fit what is stored; all that is wrong is told.
    """
    if own:
        return Conversion(None, None, False, False, layout.channels, layout.dtype)
    stored = layout.channels or 1
    chosen = spec.channels
    wrong = []
    if chosen is not None and (not chosen or max(chosen) >= stored):
        wrong.append(f"channels {list(chosen)} are not all among the {stored} stored")
    count = stored if chosen is None else len(chosen)
    forward = spec.offset_sign == 1
    dtype = layout.dtype if spec.scale is None else np.dtype("uint8")
    if spec.boundary:
        if count != 1:
            wrong.append(f"boundary needs one channel and {count} are read; choose one by channels")
        if dtype != np.uint8:
            wrong.append(f"boundary needs uint8 and {dtype} is stored; give scale (255 for 0..1)")
        if forward:
            wrong.append("boundary and offset_sign 1 exclude each other")
    elif forward and count != 3:
        wrong.append(f"offset_sign 1 needs three channels z, y, x and {count} are read")
    if wrong:
        raise StorageError(f"volume {spec.path}: " + "; ".join(wrong))
    channels = layout.channels  # a lone channel that is stored as such stays
    if spec.boundary or chosen is not None:
        channels = 3 if spec.boundary else (0 if count == 1 else count)
    if layout.channels == 0:
        chosen = None
    return Conversion(chosen, spec.scale, forward, spec.boundary, channels, dtype)


def aligned(box: Box, bounds: Box, unit: Triple) -> bool:
    """Whether a box starts and stops on borders of chunks (or shards) that count from the bounds.

    The end of the bounds counts as a border.
    """
    axes = zip(box.start, box.stop, bounds.start, bounds.stop, unit, strict=True)
    return all(
        (a - first) % u == 0 and (b == last or (b - first) % u == 0)
        for a, b, first, last, u in axes
    )
