"""Tiled inference: a network applied in tiles that are anchored to the bounds, never to a block.

    |--------------------------------------|   bounds
    cc[kkkkkkkk]cc                             tile 0: the input is c + k, the kept output k
            cc[kkkkkkkk]cc                     tile 1, one stride further
                    cc[kkkkkkkk]cc
         |-- block --|                         computes tiles 0 and 1, keeps what it writes

Tiles are counted from the start of the bounds, so blocks whose sides are multiples of the stride
compute no tile twice. If the stride is shorter than the kept output, tiles overlap and are blended
with weights that depend on the position in the tile. Beyond the bounds, the image is mirrored. So a
voxel's value depends only on the image within the bounds and on the tiling, not on the blocks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from volflow.checkpoints.header import Padding
from volflow.core.block_progress import report_parts
from volflow.core.geometry import Box, Triple, zyx

Network: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""A function from float32 (B, *tile), or (B, K, *tile) for K image channels, to float32
(B, C, *tile), or (B, C, *kept) for a network without padding.

The output for one tile of a batch must not depend on the other tiles.
"""


@dataclass(frozen=True)
class Tiling:
    """The tiles of a volume: shape of the input, margin that is discarded, and stride.

    Parameters
    ----------
    bounds : Box
        The volume; the kept output of tile 0 begins at its start.
    tile : Triple
        Shape of the network's input in voxels.
    context : Triple
        Voxels at each side of a tile whose output is discarded.
    stride : Triple
        Voxels from tile to tile, at most `kept`; a shorter stride makes tiles overlap.
    padding : "reflect" or "symmetric"
        How the image is mirrored beyond the bounds, see `mirrored_positions`.

    Raises
    ------
    ValueError
        If the context leaves nothing of a tile, or the stride is not between 1 and `kept`.
    """

    bounds: Box
    tile: Triple
    context: Triple
    stride: Triple
    padding: Padding = "reflect"

    def __post_init__(self) -> None:
        if min(self.context) < 0 or min(self.kept) < 1:
            raise ValueError(
                f"expected a tile larger than its context on both sides; "
                f"got tile {self.tile} and context {self.context}"
            )
        if any(not 1 <= s <= k for s, k in zip(self.stride, self.kept, strict=True)):
            raise ValueError(
                f"expected a stride between 1 and {self.kept}, the output kept of a tile of "
                f"{self.tile} with context {self.context}; got {self.stride}"
            )

    @property
    def kept(self) -> Triple:
        """Shape of the part of a tile's output that is kept."""
        return zyx(self.tile) - zyx(self.context) * 2

    @property
    def counts(self) -> Triple:
        """Number of tiles along z, y, x that cover the bounds."""
        beyond_first = self.bounds.shape - self.kept
        return (-(-beyond_first // self.stride)).maximum(0) + 1

    @property
    def overlapping(self) -> bool:
        """Whether a voxel may be part of several tiles."""
        return self.stride != self.kept

    def kept_box(self, index: Triple) -> Box:
        """The box of a tile's kept output; it may extend beyond the bounds."""
        start = self.bounds.start + zyx(index) * self.stride
        return Box(start, start + self.kept)

    def tiles_over(self, box: Box) -> list[Triple]:
        """Indices of the tiles whose kept output overlaps a box, in row-major order."""
        ranges = [range(*self._range(axis, box)) for axis in range(3)]
        return [(z, y, x) for z, y, x in itertools.product(*ranges)]

    def _range(self, axis: int, box: Box) -> tuple[int, int]:
        """Half-open range of the tiles along an axis whose kept output overlaps a box."""
        start, stride, width = self.bounds.start[axis], self.stride[axis], self.kept[axis]
        first = max(0, (box.start[axis] - start - width) // stride + 1)
        return first, min(self.counts[axis], -(-(box.stop[axis] - start) // stride))

    def halo(self, shape: Triple) -> Triple:
        """The halo, in voxels, that blocks of this shape over the bounds need."""
        return zyx([self._halo(axis, shape[axis]) for axis in range(3)])

    def _halo(self, axis: int, side: int) -> int:
        start, stop = self.bounds.start[axis], self.bounds.stop[axis]
        width, context, stride = self.kept[axis], self.context[axis], self.stride[axis]
        first = np.arange(start, max(stop, start + 1), side)
        last = np.minimum(first + side, stop)
        low = np.maximum(0, (first - start - width) // stride + 1) * stride + start - context
        top = np.minimum(self.counts[axis], -(-(last - start) // stride)) - 1
        high = top * stride + start + width + context
        before, after = first - np.maximum(low, start), np.minimum(high, stop) - last
        return int(max(before.max(), after.max(), 0))

    @property
    def ramps(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Blending weights along z, y and x, float32: they rise from the faces of a tile."""
        sides = [np.minimum(np.arange(k) + 1, k - np.arange(k)).clip(max=128) for k in self.kept]
        z, y, x = (side.astype("float32") for side in sides)
        return z, y, x

    @cached_property
    def weights(self) -> np.ndarray:
        """Blending weights of the kept voxels, float32 (*kept): a pyramid, smallest at the faces.

        Integers below 2**24, so that their sums are exact.
        """
        z, y, x = self.ramps
        weights: np.ndarray = z[:, None, None] * y[:, None] * x
        return weights


def fitted_tile(tile: Triple, context: Triple, unit: Triple, bounds: Box) -> Triple:
    """The tile, shortened by multiples of `unit` where the bounds and the context need less."""
    excess = (zyx(tile) - bounds.shape - zyx(context) * 2).maximum(0)
    return zyx(tile) - excess // unit * unit


def predict_tiles(
    image: np.ndarray,
    read: Box,
    write: Box,
    tiling: Tiling,
    network: Network,
    *,
    channels: int,
    batch: int = 1,
) -> np.ndarray:
    """The output of a network over a box of the volume.

    Parameters
    ----------
    image : float32 array, (*read) or (K, *read)
        The image over `read`; values outside the bounds are not used.
    read : Box
        At least `write` grown by `tiling.halo`, clipped to the bounds.
    write : Box
        The box to compute, within the bounds.
    tiling : Tiling
    network : Network
    channels : int
        Number of channels of the network's output.
    batch : int
        Number of tiles per call of the network; the last batch is filled with zeros, so that the
        shape is always the same.

    Returns
    -------
    float32 array, (channels, *write)

    Raises
    ------
    ValueError
        If the network's output has another shape than expected.
    """
    total = np.zeros((channels, *write.shape), "float32")
    weight = np.zeros(write.shape, "float32")
    tiles = tiling.tiles_over(write)
    inputs = np.zeros((batch, *image.shape[:-3], *tiling.tile), "float32")
    for first in range(0, len(tiles), batch):
        indices = tiles[first : first + batch]
        for slot, index in enumerate(indices):
            inputs[slot] = tile_input(image, read, tiling, index)
        inputs[len(indices) :] = 0
        outputs = _cropped(network(inputs), tiling, channels)
        for index, output in zip(indices, outputs, strict=False):
            _add(total, weight, write, tiling, index, output)
        report_parts(first + len(indices), len(tiles))
    if tiling.overlapping:
        total /= weight
    return total


def _add(
    total: np.ndarray,
    weight: np.ndarray,
    write: Box,
    tiling: Tiling,
    index: Triple,
    output: np.ndarray,
) -> None:
    """Add a tile's output to the total, weighted where tiles overlap."""
    box = tiling.kept_box(index)
    shared = box.clip(write)
    there, here = shared.within(write), shared.within(box)
    if not tiling.overlapping:
        total[(slice(None), *there)] = output[(slice(None), *here)]
        return
    weights = tiling.weights[here]
    total[(slice(None), *there)] += weights * output[(slice(None), *here)]
    weight[there] += weights


def _cropped(output: np.ndarray, tiling: Tiling, channels: int) -> np.ndarray:
    """The kept part of a batch of outputs."""
    check_output(output.shape[1:], tiling, channels)
    z, y, x = (_middle(n, k) for n, k in zip(output.shape[2:], tiling.kept, strict=True))
    return output[..., z, y, x]


def check_output(shape: Sequence[int], tiling: Tiling, channels: int) -> None:
    """Raise a ValueError if a network's output for one tile has another shape than expected."""
    expected = [(channels, *sides) for sides in (tiling.tile, tiling.kept)]
    if tuple(shape) not in expected:
        raise ValueError(
            f"network output for a tile of {tiling.tile}: expected {expected[0]}, or "
            f"{expected[1]} without padding; got {tuple(shape)}"
        )


def _middle(size: int, length: int) -> slice:
    """The slice of this length in the middle of an axis."""
    margin = (size - length) // 2
    return slice(margin, margin + length)


def tile_input(image: np.ndarray, read: Box, tiling: Tiling, index: Triple) -> np.ndarray:
    """The network's input for a tile, (..., *tile), from an image over `read`.

    Beyond the bounds, the image is mirrored up to the width of the context; farther out, the last
    mirrored section is repeated, so that the halo is enough.
    """
    box = tiling.kept_box(index).grow(tiling.context)
    if tiling.bounds.covers(box):
        inside: np.ndarray = image[(..., *box.within(read))]
        return inside
    z, y, x = tile_positions(read, tiling, index)
    mirrored: np.ndarray = image[..., z[:, None, None], y[:, None], x]
    return mirrored


def tile_positions(read: Box, tiling: Tiling, index: Triple) -> list[np.ndarray]:
    """Positions z, y, x in an image over `read` of the sections that fill a tile's input."""
    box = tiling.kept_box(index).grow(tiling.context)
    return [_sections(box.start[a], box.stop[a], tiling, a) - read.start[a] for a in range(3)]


def _sections(start: int, stop: int, tiling: Tiling, axis: int) -> np.ndarray:
    """Coordinates within the bounds whose sections fill those from `start` to `stop`."""
    first, side = tiling.bounds.start[axis], tiling.bounds.shape[axis]
    context = tiling.context[axis]
    position = np.arange(start - first, stop - first)
    return (
        mirrored_positions(position.clip(-context, side - 1 + context), side, tiling.padding)
        + first
    )


def mirrored_positions(position: np.ndarray, side: int, padding: Padding) -> np.ndarray:
    """Positions mirrored into the range from 0 to `side`, repeatedly if necessary.

    Parameters
    ----------
    position : int array
        Any integers.
    side : int
        At least 1.
    padding : "reflect" or "symmetric"
        For `a b c`: reflect `c b | a b c | b a`, symmetric `b a | a b c | c b`.

    Returns
    -------
    int array, of the shape of `position`
    """
    shared = 1 if padding == "reflect" else 0  # the outermost voxel is not repeated
    period = max(1, 2 * (side - shared))
    position = position % period
    inside: np.ndarray = np.minimum(position, period - 1 + shared - position)
    return inside
