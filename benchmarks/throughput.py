"""Share of a bare network's speed that `predict` reaches on a device, and the bytes it copies.

    python -m benchmarks.throughput [--model NAME] [--side Z Y X] [--block Z Y X] [--flips AXES]

`bare` is the network alone, on a batch of tiles that is already on the device, in bfloat16 where
the device is faster with it (every GPU of today). `whole blocks` is what `predict` does on a GPU: a
block goes up as integers and comes down as integers. `in tiles` is what it does on a CPU: scaling,
flips, blending and rounding with numpy, and float32 tiles in between. Both run the stage in this
process over noise, block after block, without reading or writing a volume, and give the same bytes
on a CPU.

All are measured in turns; the output is the median of the Mvoxel of output per second, the median
of the paired shares of `bare` (the aim of `whole blocks` is 0.9), and the bytes that are copied to
and from the device per voxel of output. Wall time on a GPU, processor time of one thread on a CPU,
where nothing is copied in truth: the bytes are those that a GPU would be sent.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from volflow.checkpoints.find import bundled_networks
from volflow.core.geometry import Block, BlockGrid, Box, zyx
from volflow.models.inference import Inference
from volflow.stages import predict as predict_stage
from volflow.stages.predict import Predict


def loaded_inference(stage: Predict, block: Block, image: np.ndarray) -> Inference:
    """The inference that a stage uses, after its first block."""
    created: list[Inference] = []
    load = predict_stage._inference

    def noting(*arguments: Any, **more: Any) -> Inference:
        created.append(load(*arguments, **more))
        return created[-1]

    predict_stage._inference = noting  # type: ignore[assignment]
    try:
        stage.run(block, em=cut(image, block))
    finally:
        predict_stage._inference = load
    return created[0]


def cut(image: np.ndarray, block: Block) -> np.ndarray:
    """The image that a block reads; zeros beyond the bounds."""
    part = np.zeros(block.read.shape, image.dtype)
    inside = block.read.clip(block.bounds)
    part[inside.within(block.read)] = image[inside.within(block.bounds)]
    return part


class Bare:
    """The network on a batch of tiles that is on the device; the output stays there."""

    def __init__(self, stage: Predict, bounds: Box, inference: Inference) -> None:
        tiling, self.inference = stage.tiling(bounds), inference
        shape = (inference.tiles_per_batch, inference.header.in_channels, *tiling.tile)
        self.tiles = torch.zeros(shape, dtype=inference.dtype, device=inference.device)
        self.passes = 2 ** len(stage.flips)
        batches = -(-int(np.prod(tiling.counts)) // inference.tiles_per_batch)
        self.calls = batches * self.passes
        self.voxels = batches * inference.tiles_per_batch * int(np.prod(tiling.kept))

    def __call__(self) -> None:
        transfers = self.inference.transfers
        with torch.inference_mode(), self.inference.reproducible():
            for _ in range(self.calls):
                self.inference.logits(self.tiles)
            transfers.wait(transfers.mark())


class Blocks:
    """The stage over all blocks, which the device is given as a whole or in tiles."""

    def __init__(
        self, stage: Predict, blocks: list[Block], parts: list[np.ndarray], inference: Inference
    ) -> None:
        self.stage, self.blocks, self.parts, self.inference = stage, blocks, parts, inference
        self.voxels = sum(block.write.size for block in blocks)

    def __call__(self, whole: bool) -> None:
        self.inference.whole_blocks = whole
        for block, part in zip(self.blocks, self.parts, strict=True):
            self.stage.run(block, em=part)

    def bytes_per_voxel(self, whole: bool) -> tuple[float, float]:
        """Bytes that go up and come down."""
        transfers, moved = self.inference.transfers, [0, 0]

        def count(_: torch.nn.Module, shown: tuple[torch.Tensor], output: torch.Tensor) -> None:
            moved[0] += shown[0].nbytes
            channels = len(self.inference.channels)
            moved[1] += 4 * len(output) * channels * int(np.prod(output.shape[2:]))  # float32

        before = transfers.bytes_up, transfers.bytes_down
        hook = self.inference.network.register_forward_hook(count)
        try:
            self(whole)
        finally:
            hook.remove()
        if whole:
            moved = [transfers.bytes_up - before[0], transfers.bytes_down - before[1]]
        return moved[0] / self.voxels, moved[1] / self.voxels


def rate(run: Callable[[], None], voxels: int, clock: Callable[[], float]) -> float:
    """Mvoxel of output per second."""
    start = clock()
    run()
    return voxels / (clock() - start) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="fib25-affinity", choices=list(bundled_networks()))
    parser.add_argument("--side", type=int, nargs=3, default=(256, 512, 512))
    parser.add_argument("--block", type=int, nargs=3, default=(256, 256, 256))
    parser.add_argument("--tile", type=int, nargs=3, default=None, help="input tile in voxels")
    parser.add_argument("--flips", default="")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    chosen = parser.parse_args()
    stage = Predict(
        model=chosen.model,
        range=(0, 255),
        input_tile=chosen.tile,
        flips=chosen.flips,
        device=chosen.device,
        precision=chosen.precision,
    )
    bounds, shape = Box((0, 0, 0), chosen.side), zyx(chosen.block)
    blocks = list(BlockGrid(bounds, shape, stage.halo_on(bounds, shape)))
    image = np.random.default_rng(0).integers(0, 256, bounds.shape, dtype="uint8")
    parts = [cut(image, block) for block in blocks]
    inference = loaded_inference(stage, blocks[0], image)
    on_gpu = inference.device.type == "cuda"
    tiling = stage.tiling(bounds)
    name = torch.cuda.get_device_name() if on_gpu else "no GPU here; a CPU with one thread"
    print(
        f"{name}; {chosen.model} in {'bf16' if inference.bf16 else 'fp32'}, tiles of "
        f"{list(tiling.tile)} that keep {list(tiling.kept)}, {inference.tiles_per_batch} per "
        f"batch; {len(blocks)} blocks of {list(shape)}, {chosen.rounds} rounds",
        flush=True,
    )
    bare, road = Bare(stage, bounds, inference), Blocks(stage, blocks, parts, inference)
    ways: dict[str, tuple[Callable[[], None], int]] = {
        "bare": (bare, bare.voxels),
        "whole blocks": (lambda: road(True), road.voxels),
        "in tiles": (lambda: road(False), road.voxels),
    }
    clock = time.perf_counter if on_gpu else time.process_time
    rates: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(chosen.rounds + 1):  # the first one warms up
        for way in list(ways)[:: 1 if turn % 2 else -1]:
            measured = rate(*ways[way], clock)
            if turn:
                rates[way].append(measured)
    for way, several in rates.items():
        line = f"{way:13} {statistics.median(several):9.3f} Mvoxel/s"
        if way != "bare":
            shares = [mine / theirs for mine, theirs in zip(several, rates["bare"], strict=True)]
            up, down = road.bytes_per_voxel(way == "whole blocks")
            line += (
                f"  {statistics.median(shares):.3f} of bare ({min(shares):.3f} to "
                f"{max(shares):.3f})  {up:.2f} bytes up and {down:.2f} down per voxel"
            )
        print(line, flush=True)


if __name__ == "__main__":
    main()
