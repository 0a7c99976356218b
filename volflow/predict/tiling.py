"""A network laid over a volume in tiles that are anchored to the volume, never to a block.

    |--------------------------------------|   bounds
    cc[kkkkkkkk]cc                             tile 0: the network sees c + k, k is kept
            cc[kkkkkkkk]cc                     tile 1, one stride further
                    cc[kkkkkkkk]cc
         |-- block --|                         computes tiles 0 and 1, keeps what it writes

Tiles start at the start of the bounds, so blocks whose sides are multiples of the stride compute
no tile twice. Where the stride is shorter than what a tile keeps, tiles overlap and are blended
with weights that are a function of the place in the tile. Beyond the bounds a tile sees the
image mirrored. So a voxel's value is a function of the image within the bounds and of the
tiling: blocks only decide who computes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from volflow.checkpoints.header import Padding
from volflow.core.block_progress import report_parts
from volflow.core.geometry import Box, Triple, zyx

Network: TypeAlias = Callable[[np.ndarray], np.ndarray]
"""float32 (B, *tile), of an image with channels (B, K, *tile), to float32 (B, C, *tile), or
(B, C, *kept) of a network that pads nothing.

What it makes of one tile of a batch must not depend on the others.
"""


@dataclass(frozen=True)
class Tiling:
    """Tiles over bounds: what a network is shown, what of that is kept, how far tiles lie apart.

    Parameters
    ----------
    bounds : Box
        The volume; tile 0 keeps voxels from its start on.
    tile : Triple
        Voxels that the network is shown at once.
    context : Triple
        Voxels at each side of a tile whose output is dropped.
    stride : Triple
        Voxels from tile to tile, at most `kept`; less of them blends.
    padding : "reflect" or "symmetric"
        How the image is mirrored beyond the bounds, see `mirrored`.
    """

    bounds: Box
    tile: Triple
    context: Triple
    stride: Triple
    padding: Padding = "reflect"

    def __post_init__(self) -> None:
        if min(self.context) < 0 or min(self.kept) < 1:
            raise ValueError(
                f"a tile has to be larger than its context on both sides; "
                f"got tile {self.tile} and context {self.context}"
            )
        if any(not 1 <= s <= k for s, k in zip(self.stride, self.kept, strict=True)):
            raise ValueError(
                f"the stride of tiles lies between 1 and the {self.kept} voxels that a tile of "
                f"{self.tile} with context {self.context} keeps; got {self.stride}"
            )

    @property
    def kept(self) -> Triple:
        """Voxels of a tile's output that count."""
        return zyx([t - 2 * c for t, c in zip(self.tile, self.context, strict=True)])

    @property
    def counts(self) -> Triple:
        """Tiles along z, y, x: as many as cover the bounds."""
        sides = zip(self.bounds.shape, self.kept, self.stride, strict=True)
        return zyx([max(0, -(-(n - k) // s)) + 1 for n, k, s in sides])

    @property
    def overlapping(self) -> bool:
        """Whether a voxel may lie in more than one tile."""
        return self.stride != self.kept

    def keeps(self, index: Triple) -> Box:
        """What a tile keeps; it may reach beyond the bounds."""
        steps = zip(self.bounds.start, index, self.stride, strict=True)
        start = zyx([a + i * s for a, i, s in steps])
        return Box(start, zyx(start) + self.kept)

    def reaching(self, box: Box) -> list[Triple]:
        """Indices of the tiles that keep a voxel of a box, in row-major order."""
        ranges = [range(*self._range(axis, box)) for axis in range(3)]
        return [(z, y, x) for z, y, x in itertools.product(*ranges)]

    def _range(self, axis: int, box: Box) -> tuple[int, int]:
        """First and last but one tile along an axis that reach into a box within the bounds."""
        start, stride, kept = self.bounds.start[axis], self.stride[axis], self.kept[axis]
        first = max(0, (box.start[axis] - start - kept) // stride + 1)
        return first, min(self.counts[axis], -(-(box.stop[axis] - start) // stride))

    def halo(self, shape: Triple) -> Triple:
        """Voxels that blocks of a shape, laid over the bounds, need beyond themselves."""
        return zyx([self._halo(axis, shape[axis]) for axis in range(3)])

    def _halo(self, axis: int, side: int) -> int:
        start, stop = self.bounds.start[axis], self.bounds.stop[axis]
        kept, context, stride = self.kept[axis], self.context[axis], self.stride[axis]
        first = np.arange(start, max(stop, start + 1), side)
        last = np.minimum(first + side, stop)
        low = np.maximum(0, (first - start - kept) // stride + 1) * stride + start - context
        top = np.minimum(self.counts[axis], -(-(last - start) // stride)) - 1
        high = top * stride + start + kept + context
        before, after = first - np.maximum(low, start), np.minimum(high, stop) - last
        return int(max(before.max(), after.max(), 0))

    @cached_property
    def weights(self) -> np.ndarray:
        """Weight of each voxel kept, float32 (*kept): a pyramid, smallest at the faces.

        Whole numbers below 2**24, so that their sums are exact.
        """
        sides = [np.minimum(np.arange(k) + 1, k - np.arange(k)).clip(max=128) for k in self.kept]
        z, y, x = (side.astype("float32") for side in sides)
        weights: np.ndarray = z[:, None, None] * y[:, None] * x
        return weights


def fitted(tile: Triple, context: Triple, unit: Triple, bounds: Box) -> Triple:
    """The tile, shortened by multiples of `unit` to what bounds and context ask for."""
    found = []
    for side, around, step, extent in zip(tile, context, unit, bounds.shape, strict=True):
        beyond = max(0, side - extent - 2 * around)
        found.append(side - beyond // step * step)
    return zyx(found)


def tiled(
    image: np.ndarray,
    read: Box,
    write: Box,
    tiling: Tiling,
    network: Network,
    channels: int,
    batch: int = 1,
) -> np.ndarray:
    """What a network makes of a box of the volume.

    Parameters
    ----------
    image : float32 array, (*read) or (K, *read)
        The image over `read`; what lies outside the bounds is not looked at.
    read : Box
        At least `write` grown by `tiling.halo`, as far as that lies in the bounds.
    write : Box
        What is expected, within the bounds.
    tiling : Tiling
    network : Network
    channels : int
        Channels of the network's output.
    batch : int
        Tiles that are shown at once; the last batch is filled up with zeros, so that the network
        always sees the same shape.

    Returns
    -------
    float32 array, (channels, *write)
    """
    total = np.zeros((channels, *write.shape), "float32")
    weight = np.zeros(write.shape, "float32")
    todo = tiling.reaching(write)
    shown = np.zeros((batch, *image.shape[:-3], *tiling.tile), "float32")
    for first in range(0, len(todo), batch):
        indices = todo[first : first + batch]
        for place, index in enumerate(indices):
            shown[place] = seen(image, read, tiling, index)
        shown[len(indices) :] = 0
        made = _cropped(network(shown), tiling, channels)
        for index, output in zip(indices, made, strict=False):
            _add(total, weight, write, tiling, index, output)
        report_parts(first + len(indices), len(todo))
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
    """Put what a tile made where it belongs, weighted where tiles overlap."""
    kept = tiling.keeps(index)
    shared = kept.clip(write)
    there, here = shared.within(write), shared.within(kept)
    if not tiling.overlapping:
        total[(slice(None), *there)] = output[(slice(None), *here)]
        return
    weights = tiling.weights[here]
    total[(slice(None), *there)] += weights * output[(slice(None), *here)]
    weight[there] += weights


def _cropped(made: np.ndarray, tiling: Tiling, channels: int) -> np.ndarray:
    """What is kept of a batch of outputs."""
    for shape in (tiling.tile, tiling.kept):
        if made.shape[1:] == (channels, *shape):
            z, y, x = (_middle(n, k) for n, k in zip(shape, tiling.kept, strict=True))
            return made[..., z, y, x]
    raise ValueError(
        f"the network was shown a tile of {tiling.tile} and made {made.shape[1:]}; expected "
        f"{(channels, *tiling.tile)}, or {(channels, *tiling.kept)} of one that pads nothing"
    )


def _middle(size: int, kept: int) -> slice:
    margin = (size - kept) // 2
    return slice(margin, margin + kept)


def seen(image: np.ndarray, read: Box, tiling: Tiling, index: Triple) -> np.ndarray:
    """What the network is shown of an image over `read`, (..., *tile): mirrored out of bounds.

    Farther out than the context, the last section that is shown so is repeated, so that no
    more of the image is needed than the halo gives.
    """
    box = tiling.keeps(index).grow(tiling.context)
    if tiling.bounds.covers(box):
        inside: np.ndarray = image[(..., *box.within(read))]
        return inside
    z, y, x = (_sections(box.start[a], box.stop[a], tiling, a) - read.start[a] for a in range(3))
    found: np.ndarray = image[..., z[:, None, None], y[:, None], x]
    return found


def _sections(start: int, stop: int, tiling: Tiling, axis: int) -> np.ndarray:
    """Coordinates within the bounds that stand for those from `start` to `stop`."""
    first, side = tiling.bounds.start[axis], tiling.bounds.shape[axis]
    context = tiling.context[axis]
    place = np.arange(start - first, stop - first)
    return mirrored(place.clip(-context, side - 1 + context), side, tiling.padding) + first


def mirrored(place: np.ndarray, side: int, padding: Padding) -> np.ndarray:
    """Places from 0 to `side` that stand for any places, as often to and fro as it takes.

    Parameters
    ----------
    place : int array
    side : int
        At least 1.
    padding : "reflect" or "symmetric"
        Of `a b c`: reflect `c b | a b c | b a`, symmetric `b a | a b c | c b`.
    """
    again = 1 if padding == "reflect" else 0  # the outermost is not shown twice
    period = max(1, 2 * (side - again))
    place = place % period
    found: np.ndarray = np.minimum(place, period - 1 + again - place)
    return found
