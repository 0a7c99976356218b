"""Conversion of foreign numbers to ours: channels, scaling to uint8, direction of affinities.

Our affinities join a voxel with the previous one along z, y, x. A foreign volume may join it with
the next one, or hold one boundary probability.
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
    """The change from stored to read numbers; `channels` is 0 without a channel axis."""

    chosen: tuple[int, ...] | None
    scale: float | None
    forward: bool
    boundary: bool
    channels: int
    dtype: np.dtype[Any]
    ignore: tuple[int, ...] | None = None

    @property
    def leading(self) -> tuple[int, ...]:
        """The shape of the channel axis: (C,), or () without one."""
        return (self.channels,) if self.channels else ()

    def read(
        self, voxels: StoredArray, box: Box, fill: int = 0, out: np.ndarray | None = None
    ) -> np.ndarray:
        """Read any box, into `out` if given; voxels outside the bounds are `fill`.

        Raises
        ------
        StorageError
            If a value to be scaled is not a number (NaN), or a label is negative.
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
        """Read a box within the bounds, into `out` if given."""
        if self.ignore is not None:
            return placed(self._labels(self._values(voxels, box), box), out)
        if self.boundary or self.forward:
            return placed(self._turned(voxels, box, voxels.layout.bounds), out)
        if self.scale is None and (self.chosen is None or self.channels):
            return voxels.read(box, self.chosen, out)
        return placed(self._values(voxels, box), out)

    def _labels(self, values: np.ndarray, box: Box) -> np.ndarray:
        """Labels with 0 for those to be ignored, unsigned."""
        assert self.ignore is not None
        labels = np.where(np.isin(values, np.array(self.ignore, values.dtype)), 0, values)
        if labels.dtype.kind == "i" and labels.min(initial=0) < 0:
            raise StorageError(
                f"box {box}: expected labels from 0, got {labels.min()}; add it to `ignore` if it "
                f"stands for 'not labelled'"
            )
        return labels.astype(self.dtype, copy=False)

    def _values(self, voxels: StoredArray, box: Box) -> np.ndarray:
        """The chosen channels of a box within the bounds, scaled if so declared."""
        values = voxels.read(box, self.chosen)
        if values.ndim == 4 and len(values) == 1 and (self.boundary or self.chosen is not None):
            values = values[0]
        if self.scale is None:
            return values
        wide = np.dtype("float64") if values.dtype.kind != "f" else values.dtype
        scaled = values.astype(max(wide, np.dtype("float32")))
        if np.isnan(scaled).any():
            raise StorageError(f"box {box}: expected numbers to scale to uint8, got NaN")
        scaled *= scaled.dtype.type(self.scale)
        np.rint(scaled, out=scaled)
        return np.clip(scaled, 0, 255, out=scaled).astype(np.uint8)

    def _turned(self, voxels: StoredArray, box: Box, bounds: Box) -> np.ndarray:
        """Affinities with the previous voxel; 0 in the first plane of the volume along an axis."""
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
    """An array of one value; zeros come from the system and are not written again."""
    return np.full(shape, fill, dtype) if fill else np.zeros(shape, dtype)


def conversion(spec: VolumeSpec, layout: Layout, own: bool) -> Conversion:
    """The conversion that a volume's declaration asks for.

    Raises
    ------
    StorageError
        If the declaration does not fit the stored volume; the message lists every problem.
    """
    if own:
        return Conversion(None, None, False, False, layout.channels, layout.dtype)
    stored = layout.channels or 1
    chosen = spec.channels
    wrong = []
    if chosen is not None and (not chosen or max(chosen) >= stored):
        wrong.append(f"channels: expected numbers below {stored}, got {list(chosen)}")
    count = stored if chosen is None else len(chosen)
    forward = spec.offset_sign == 1
    dtype = layout.dtype if spec.scale is None else np.dtype("uint8")
    if spec.ignore is not None:
        wrong += _ignore_problems(spec, layout.dtype)
        if layout.dtype.kind == "i":
            dtype = np.dtype(f"uint{8 * layout.dtype.itemsize}")
    averaged = () if spec.downsample is None else ("ignore", "boundary", "offset_sign")
    for name in averaged:
        if getattr(spec, name) != VolumeSpec.model_fields[name].default:
            wrong.append(f"downsample is for images; it excludes {name}")
    if spec.boundary:
        if count != 1:
            wrong.append(f"boundary: expected one channel, got {count}; choose one with channels")
        if dtype != np.uint8:
            wrong.append(f"boundary: expected uint8, got {dtype}; declare scale (255 for 0..1)")
        if forward:
            wrong.append("boundary and offset_sign 1 exclude each other")
    elif forward and count != 3:
        wrong.append(f"offset_sign 1: expected three channels z, y, x; got {count}")
    if wrong:
        raise StorageError(f"volume {spec.path}: " + "; ".join(wrong))
    channels = layout.channels  # a single stored channel keeps its axis
    if spec.boundary or chosen is not None:
        channels = 3 if spec.boundary else (0 if count == 1 else count)
    if layout.channels == 0:
        chosen = None
    return Conversion(chosen, spec.scale, forward, spec.boundary, channels, dtype, spec.ignore)


def _ignore_problems(spec: VolumeSpec, stored: np.dtype[Any]) -> list[str]:
    """Problems of values to be read as 0: they are for labels of a type that can hold them."""
    if stored.kind not in "iu":
        return [f"ignore: expected labels (integers), got {stored}"]
    problems = []
    if spec.scale is not None or spec.boundary or spec.offset_sign == 1:
        problems.append("ignore is for labels; it excludes scale, boundary and offset_sign")
    limits = np.iinfo(stored)
    beyond = [value for value in spec.ignore or () if not limits.min <= value <= limits.max]
    if beyond:
        problems.append(
            f"ignore: expected values of {stored}, {limits.min} to {limits.max}; got {beyond[0]}"
        )
    return problems


def aligned(box: Box, bounds: Box, unit: Triple) -> bool:
    """Whether a box starts and stops on borders of chunks or shards, counted from the bounds.

    The end of the bounds counts as a border.
    """
    axes = zip(box.start, box.stop, bounds.start, bounds.stop, unit, strict=True)
    for first, last, start, stop, side in axes:
        if (first - start) % side or ((last - start) % side and last != stop):
            return False
    return True
