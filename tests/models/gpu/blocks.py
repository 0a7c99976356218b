"""A small network over a block, on the device and the plain way, and transfers that are late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from tests.networks import header
from volflow.core.geometry import BlockGrid, Box, Triple
from volflow.models.gpu.block import predict_block
from volflow.models.gpu.transfers import DirectTransfers, Upload
from volflow.models.inference import Inference
from volflow.predict.flips import Channel, average_over_flips, shift_channels
from volflow.predict.intensity import normalise
from volflow.predict.outputs import to_uint8
from volflow.predict.tiling import Tiling, predict_tiles

CHANNELS = (
    Channel(offset=(-1, 0, 0)),
    Channel(offset=(0, 0, 1), shift=(0, 0, -1)),
    Channel(odd="zx"),
    Channel(range=(-2.5, 2)),
)
LOGITS = (True, True, True, False)

Compute = Callable[[np.ndarray, Box, Box], np.ndarray]
"""The integers of a block, from its image and the boxes that it reads and writes."""


class Small(nn.Module):
    """One convolution, and the mean of the tile, so that each tile has an answer of its own."""

    def __init__(self, image_channels: int = 1, margin: int = 0) -> None:
        super().__init__()
        self.layer = nn.Conv3d(image_channels, len(CHANNELS), 3, padding=1)
        self.margin = margin
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for tensor in self.parameters():
                tensor.copy_(torch.randn(tensor.shape, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layer(x) + x.mean(dim=(1, 2, 3, 4), keepdim=True)
        m = self.margin
        return output[
            ..., m : output.shape[2] - m, m : output.shape[3] - m, m : output.shape[4] - m
        ]


@dataclass(frozen=True)
class Work:
    """A volume, its tiles, and what is computed of it."""

    tiling: Tiling
    dtype: str = "uint8"
    image_channels: int = 0
    flips: str = ""
    batch: int = 1
    channels: tuple[Channel, ...] = CHANNELS
    ends: tuple[float, float] = (20, 200)
    image: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        leading = (self.image_channels,) if self.image_channels else ()
        shape = (*leading, *self.tiling.bounds.shape)
        top = np.iinfo(self.dtype).max
        image = np.random.default_rng(1).integers(0, top, shape, self.dtype, endpoint=True)
        object.__setattr__(self, "image", image)

    def inference(self, network: nn.Module | None = None) -> Inference:
        """The network, at work as on a GPU, where a batch is computed at once."""
        heads = {
            f"head{number}": {"channels": 1, "sigmoid": logit}
            for number, logit in enumerate(LOGITS)
        }
        printed = header(network="tests.models.gpu.blocks:Small", offsets=(), heads=heads)
        network = network or Small(self.image_channels or 1)
        created = Inference(network.eval(), printed, range(len(LOGITS)), "cpu", "fp32")
        created.tiles_per_batch = self.batch
        return created

    def table(self) -> np.ndarray:
        """The network's input for each intensity."""
        return normalise(np.arange(np.iinfo(self.dtype).max + 1), *self.ends)

    def on_device(self, block_shape: Triple, inference: Inference | None = None) -> np.ndarray:
        """The volume, put together from blocks that are left to the device."""
        used = inference or self.inference()

        def compute(image: np.ndarray, read: Box, write: Box) -> np.ndarray:
            return predict_block(
                image,
                read,
                write,
                self.tiling,
                used,
                self.channels,
                table=self.table(),
                flips=self.flips,
            )

        return self._together(block_shape, compute)

    def in_tiles(self, block_shape: Triple, inference: Inference | None = None) -> np.ndarray:
        """The volume, put together from blocks of which the device has tiles only."""
        used = inference or self.inference()
        pairs, odd = [each.offset for each in self.channels], [each.odd for each in self.channels]
        ranges = [each.range for each in self.channels]
        mean = average_over_flips(used, self.flips, pairs, odd, [sum(ends) for ends in ranges])
        network = shift_channels(mean, [each.shift for each in self.channels])

        def compute(image: np.ndarray, read: Box, write: Box) -> np.ndarray:
            predicted = predict_tiles(
                normalise(image, *self.ends),
                read,
                write,
                self.tiling,
                network,
                channels=len(self.channels),
                batch=self.batch,
            )
            return to_uint8(predicted, ranges)

        return self._together(block_shape, compute)

    def _together(self, block_shape: Triple, compute: Compute) -> np.ndarray:
        bounds = self.tiling.bounds
        whole = np.zeros((len(self.channels), *bounds.shape), "uint8")
        for block in BlockGrid(bounds, block_shape, self.tiling.halo(block_shape)):
            inside = block.read.clip(bounds)
            shape = (*self.image.shape[:-3], *block.read.shape)
            part = np.random.default_rng(2).integers(0, 255, shape, self.dtype)  # beyond the bounds
            part[(..., *inside.within(block.read))] = self.image[(..., *inside.within(bounds))]
            part.flags.writeable = False
            computed = compute(part, block.read, block.write)
            whole[(slice(None), *block.write.within(bounds))] = computed
        return whole


class LateTransfers(DirectTransfers):
    """Transfers that copy as late as they may: noise arrives before, and nothing is sent before."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[tuple[Tensor, Tensor]] = []
        self.sent: list[tuple[Tensor, Tensor, Tensor]] = []

    def host(self, shape: tuple[int, ...]) -> Tensor:
        return torch.full(shape, 77, dtype=torch.uint8)

    def _up(self, array: np.ndarray) -> Upload:
        source = torch.from_numpy(array.copy())
        target = torch.full_like(source, 99)
        self.begun.append((target, source))
        return Upload(target, len(self.begun))

    def arrived(self, upload: Upload) -> Tensor:
        for target, source in self.begun[: upload.event]:  # a stream keeps the order
            target.copy_(source)
        return upload.tensor

    def _down(self, values: Tensor, target: Tensor) -> None:
        self.sent.append((values, values.clone(), target))

    def finish(self) -> None:
        for values, before, target in self.sent:
            assert torch.equal(values, before), "changed while it was copied"
            target.copy_(values)
        self.sent.clear()
