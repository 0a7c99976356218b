"""The output of a network over a block, on the device from stored integers to stored integers.

    this machine    raw sections                                    uint8 sections
                         |                                               ^
    device               +--> scaled --> tiles --> network --> flips, blending, rounding

This computes what `predict_tiles`, `average_over_flips`, `shift_channels` and `to_uint8` compute,
with the same operations in float32 in the same order, so that a tile's place in a batch changes
nothing. What is copied is one integer per voxel of the image, and one per voxel and channel of the
output, instead of float32 tiles with their margins. Tiles are taken in row-major order, in batches
that cross the rows: the sections of the image for the next batch are copied while a batch is
computed, and so are the sections of the output to which no further tile contributes.

The sigmoid is the one exception. A GPU computes it on the kept voxels only. On a CPU its last bits
depend on a voxel's place in its array, so it is computed on the whole tile, as elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from volflow.core.block_progress import report_parts
from volflow.core.geometry import Box, Triple, zyx
from volflow.models.gpu.image import ImageOnDevice
from volflow.models.gpu.sums import SumsOnDevice
from volflow.models.inference import Inference
from volflow.predict.flips import Channel, axis_subsets, check_same_shape
from volflow.predict.tiling import Tiling, check_output, tile_positions

BATCHES = 2  # that the device has been given and not finished, so that it never waits for the next


def predict_block(
    raw: np.ndarray,
    read: Box,
    write: Box,
    tiling: Tiling,
    inference: Inference,
    channels: Sequence[Channel],
    *,
    table: np.ndarray,
    flips: str = "",
    subject: str = "the network",
) -> np.ndarray:
    """The output of a network over a box of the volume, rounded to integers.

    Parameters
    ----------
    raw : uint8 or uint16, (*read) or (K, *read)
        The image over `read`; values outside the bounds are not used.
    read : Box
        At least `write` grown by `tiling.halo`, clipped to the bounds.
    write : Box
        The box to compute, within the bounds.
    tiling : Tiling
    inference : Inference
        Its batches are halved where they do not fit into the device's memory.
    channels : sequence of Channel
        One for each of the inference's channels.
    table : float32, (256,) or (65536,)
        The network's input for each intensity.
    flips : str
        Axes, a part of `zyx`, over whose flips the output is averaged.
    subject : str
        Names the network in an error.

    Returns
    -------
    uint8, (C, *write)

    Raises
    ------
    ValueError
        If the network's output has another shape than expected, or values that are not finite.
    MemoryError
        If a single tile, or the block, does not fit into the device's memory.
    """
    transfers = inference.transfers
    with torch.inference_mode(), inference.reproducible():
        try:
            return _Block(raw, read, write, tiling, inference, channels, table, flips).run(subject)
        except torch.OutOfMemoryError as error:
            raise MemoryError(
                f"a block of {list(write.shape)} does not fit into the memory of "
                f"{inference.device}; set a smaller block"
            ) from error
        finally:
            transfers.finish()


class _Block:
    """A block under way."""

    def __init__(
        self,
        raw: np.ndarray,
        read: Box,
        write: Box,
        tiling: Tiling,
        inference: Inference,
        channels: Sequence[Channel],
        table: np.ndarray,
        flips: str,
    ) -> None:
        self.tiling, self.inference, self.channels = tiling, inference, channels
        self.transfers, self.passes = inference.transfers, axis_subsets(flips)
        self.tiles = tiling.tiles_over(write)
        self.image = ImageOnDevice(raw, read, tiling, self.tiles, inference, table)
        self.sums = SumsOnDevice(write, tiling, self.tiles, channels, inference)
        self.indices: dict[bytes, Tensor] = {}

    def run(self, subject: str) -> np.ndarray:
        tiles, done = self.tiles, 0
        given: deque[tuple[Any, int]] = deque()
        while done < len(tiles):
            size = self.inference.tiles_per_batch
            batch = tiles[done : done + size]
            self.image.require(batch)
            outputs = self._outputs_if_they_fit(batch, size)
            if outputs is None:
                self.inference.halve_batch(self.tiling.tile)
                continue
            self.sums.add(batch, outputs)
            done += len(batch)
            self.sums.send(before=tiles[done][0] if done < len(tiles) else None)
            self.image.prefetch(tiles[done : done + size])
            given.append((self.transfers.mark(), done))
            if len(given) == BATCHES or done == len(tiles):
                self._wait(given, left=BATCHES - 1 if done < len(tiles) else 0)
        return self.sums.result(subject)

    def _wait(self, given: deque[tuple[Any, int]], left: int) -> None:
        """Wait until the device has no more than `left` batches to do; report the others."""
        while len(given) > left:
            mark, done = given.popleft()
            self.transfers.wait(mark)
            report_parts(done, len(self.tiles))

    def _outputs_if_they_fit(self, batch: Sequence[Triple], size: int) -> Tensor | None:
        """The outputs of a batch of tiles; None if the device's memory does not suffice."""
        try:
            return self._outputs(self._inputs(batch, size))
        except torch.OutOfMemoryError:  # its tensors are freed after this block
            return None

    def _inputs(self, batch: Sequence[Triple], size: int) -> Tensor:
        """The network's input for tiles, filled with zeros to `size` tiles: (B, K, *tile)."""
        image = self.image.values
        shape = (size, image.shape[0], *self.tiling.tile)
        inputs = torch.zeros(shape, dtype=image.dtype, device=image.device)
        for slot, index in enumerate(batch):
            inputs[slot] = self._taken(image, tile_positions(self.image.box, self.tiling, index))
        return inputs

    def _outputs(self, inputs: Tensor) -> Tensor:
        """The kept part of the output, averaged over flips: float32, (B, C, *kept)."""
        total = None
        for flipped in self.passes:
            shown = inputs.flip([axis - 3 for axis in flipped]) if flipped else inputs
            logits = self.inference.logits(shown)
            self._check(inputs.shape, logits.shape)
            values = self._kept(logits, flipped)
            total = values if total is None else total.add_(values)
        assert total is not None  # the first pass flips nothing
        return total.div_(len(self.passes)) if len(self.passes) > 1 else total

    def _check(self, shown: torch.Size, output: torch.Size) -> None:
        if len(self.passes) > 1:
            check_same_shape("flips", shown, output)
        if any(any(channel.shift) for channel in self.channels):
            check_same_shape("affinities to the next voxel", shown, output)
        selected = self.inference.selected
        count = output[1] if selected is None else len(selected)
        check_output((count, *output[2:]), self.tiling, len(self.channels))

    def _kept(self, logits: Tensor, flipped: tuple[int, ...]) -> Tensor:
        """The kept part of the output for a flipped image, in the frame of the image."""
        width, side = self.tiling.kept, zyx(logits.shape[2:])
        first = zyx([(n - k) // 2 for n, k in zip(side, width, strict=True)])
        shape = (len(logits), len(self.channels), *width)
        values = torch.empty(shape, dtype=torch.float32, device=logits.device)
        places = [channel.positions(flipped, side, first, width) for channel in self.channels]
        if self.inference.crops_first:
            for number, place in enumerate(places):
                values[:, number] = self._taken(logits[:, self.inference.source(number)], place)
            for tile in values:
                self.inference.activate(tile)
        else:
            for slot, tile in enumerate(logits):
                activated = self.inference.activated(tile)
                for number, place in enumerate(places):
                    values[slot, number] = self._taken(activated[number], place)
        for number, channel in enumerate(self.channels):
            if channel.is_odd(flipped):
                values[:, number] = sum(channel.range) - values[:, number]
        return values

    def _taken(self, tensor: Tensor, positions: Sequence[np.ndarray]) -> Tensor:
        """The tensor at positions along each of its last three axes; a view if they allow it."""
        for axis, position in zip((-3, -2, -1), positions, strict=True):
            step = np.diff(position)
            if (step == 1).all():
                tensor = tensor.narrow(axis, int(position[0]), len(position))
            elif (step == -1).all():
                tensor = tensor.narrow(axis, int(position[-1]), len(position)).flip(axis)
            else:
                tensor = tensor.index_select(axis, self._index(position))
        return tensor

    def _index(self, position: np.ndarray) -> Tensor:
        """Positions on the device."""
        key = position.tobytes()
        if key not in self.indices:
            self.indices[key] = self.transfers.arrived(self.transfers.up(position))
        return self.indices[key]
