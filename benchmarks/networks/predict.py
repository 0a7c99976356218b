"""Cost of `predict` in the engine, compared with the best plain torch loop over the same tiles.

    python -m benchmarks.networks.predict [--pairs N] [--model NAME] [--side Z Y X]
    python -m benchmarks.networks.predict --latency SECONDS

Both read the image from a zarr and write uint8 affinities to a precomputed volume, with one thread
in one process, in turns. The plain loop has the whole image and the whole result in memory, and its
own tiles, scaling and rounding; the engine has to read halos, crop, mark, and write chunk by chunk.
The output is the wall and CPU seconds of each, and the median of the paired ratios plain / engine
(target: 0.9). The bytes must be the same.

With --latency, each read of the image takes that much longer, as from a remote store: prefetched
blocks are compared with blocks that are read when they are computed.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from volflow.checkpoints.header import Header, Normalisation
from volflow.config.pipeline import VolumeSpec, from_dict
from volflow.core.geometry import Box, Triple
from volflow.core.stage import Layer
from volflow.engine.driver import prepare
from volflow.engine.job import Plan
from volflow.engine.plan import plan as planner
from volflow.engine.worker.block_range import run_range
from volflow.io.volume import Volume
from volflow.models.checkpoint import load_checkpoint, save_checkpoint
from volflow.models.inference import Inference
from volflow.models.resunet3d import ResUNet3D
from volflow.stages.predict import Predict

FIXED = Normalisation(kind="fixed", low=0, high=255)


def fresh_network(path: Path) -> None:
    """Save an untrained network of the bundled shape; the time does not depend on the weights."""
    torch.manual_seed(0)
    arguments = {"widths": [16, 32, 64, 96], "out_channels": 12}
    offsets = [(-n, 0, 0) for n in (1, 3, 9, 27)]
    offsets = [tuple(np.roll(o, a).tolist()) for o in offsets for a in range(3)]  # type: ignore[misc]
    header = Header(
        network="resunet3d",
        arguments=arguments,
        out_channels=12,
        offsets=tuple(offsets),
        voxel_size_nm=(10, 10, 10),
        receptive_field=(51, 51, 51),
        halo=(16, 16, 16),
        total_stride=(8, 8, 8),
        input_tile=(96, 96, 96),
        output_tile=(64, 64, 64),
        normalisation=FIXED,
    )
    save_checkpoint(path, ResUNet3D(**arguments).state_dict(), header)


def stored_image(folder: Path, bounds: Box) -> np.ndarray:
    """Noise, written as a zarr with chunks of 64³ voxels."""
    image = np.random.default_rng(0).integers(0, 256, bounds.shape, dtype="uint8")
    spec = VolumeSpec(path=f"zarr://{folder}/em.zarr")
    volume, _ = Volume.create(spec, Layer("uint8", 0), bounds, (10, 10, 10), (64, 64, 64))
    volume.write(bounds, image)
    return image


def make_plan(folder: Path, run: str, model: str, block: Triple) -> Plan:
    """The plan of one step, `predict`."""
    given = {"model": model, "range": [0, 255], "device": "cpu"}
    document = {
        "run": f"{folder}/{run}",
        "block": list(block),
        "volumes": {"em": {"path": f"{folder}/em.zarr"}, "affinity": {"chunk": [64, 64, 64]}},
        "steps": [{"use": "predict", "with": given}],
    }
    return planner.plan(from_dict(document))


def run_engine(plan: Plan, **changes: Any) -> None:
    """Run the blocks of the step, as a worker does."""
    (step,) = plan.steps
    prepare(plan.pipeline.run, step)
    job = dataclasses.replace(step.jobs[0], **changes)
    outcome = run_range(job, 0, len(job.phase.grid), tolerate=False)
    assert outcome.done == len(job.phase.grid)


def run_plain(folder: Path, out: str, stage: Predict, bounds: Box) -> None:
    """Read everything, loop over tiles with the network itself, write everything."""
    header, halo, size = stage.header, stage.header.halo[0], stage.header.output_tile[0]
    channels = [channel for channel, _ in stage.picks["affinity"]]
    network, whole = loaded(stage)
    volume = Volume.open(VolumeSpec(path=f"zarr://{folder}/em.zarr"))
    scale, (low, high) = header.normalisation, header.normalisation.onto
    image = volume.read(bounds).astype("float32") * np.float32((high - low) / 255) + np.float32(low)
    if scale.clip is not None:
        np.clip(image, *scale.clip, out=image)
    padded = torch.from_numpy(np.pad(image, halo, mode=header.padding))
    result = torch.empty((3, *bounds.shape), dtype=torch.uint8)
    starts = [range(0, side, size) for side in bounds.shape]
    inner = slice(halo, halo + size)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, not whole):
        for z in starts[0]:
            for y in starts[1]:
                for x in starts[2]:
                    side = size + 2 * halo
                    tile = padded[z : z + side, y : y + side, x : x + side][None, None]
                    batch = tile.to(next(network.parameters()).dtype)
                    logits = network(batch.contiguous(memory_format=torch.channels_last_3d))
                    values = logits[0, channels, inner, inner, inner].float().sigmoid_()
                    result[:, z : z + size, y : y + size, x : x + size] = values.mul_(255).round_()
    spec = VolumeSpec(path=f"precomputed://{folder}/{out}")
    layer = Layer("uint8", 3, "affinity")
    target, _ = Volume.create(spec, layer, bounds, (10, 10, 10), (64, 64, 64))
    target.write(bounds, result.numpy())


_LOADED: list[tuple[torch.nn.Module, bool]] = []


def loaded(stage: Predict) -> tuple[torch.nn.Module, bool]:
    """The network in the form that is fastest here, loaded once as in the engine."""
    if not _LOADED:
        model, header = load_checkpoint(stage._found.path or "")
        fastest = Inference(model, header, (0, 1, 2), "cpu")
        _LOADED.append((fastest.network, fastest.whole_bf16 or not fastest.bf16))
    return _LOADED[0]


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds of a call."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def pairs(folder: Path, model: str, bounds: Box, block: Triple, count: int) -> None:
    """Run engine and plain loop in turns, and print their ratios."""
    seconds: list[tuple[tuple[float, float], tuple[float, float]]] = []
    stage = Predict(model=model, range=(0, 255), device="cpu")
    for number in range(count + 1):  # the first pair warms up
        plan = make_plan(folder, f"run{number}", model, block)
        both = [
            partial(run_engine, plan),
            partial(run_plain, folder, f"plain{number}", stage, bounds),
        ]
        order = (0, 1) if number % 2 else (1, 0)
        took = dict(zip(order, [timed(both[which]) for which in order], strict=True))
        if number:
            seconds.append((took[0], took[1]))
        same_bytes(folder, number, bounds)
    for which, name in ((0, "wall time"), (1, "CPU time")):
        engine = statistics.median(pair[0][which] for pair in seconds)
        loop = statistics.median(pair[1][which] for pair in seconds)
        ratio = statistics.median(pair[1][which] / pair[0][which] for pair in seconds)
        speed = bounds.size / engine / 1e6
        print(
            f"{name:10}  engine {engine:6.2f} s ({speed:.2f} Mvoxel/s)  plain {loop:6.2f} s  "
            f"plain / engine {ratio:.3f}"
        )


def same_bytes(folder: Path, number: int, bounds: Box) -> None:
    """Check that both results are equal, except for rounding of the sigmoid."""
    one, other = (
        Volume.open(VolumeSpec(path=f"precomputed://{folder}/{place}")).read(bounds).astype(int)
        for place in (f"run{number}/affinity", f"plain{number}")
    )
    assert np.abs(one - other).max() <= 1


def compare_prefetch(folder: Path, model: str, block: Triple, latency: float, count: int) -> None:
    """Compare prefetching with reading on demand, where each read takes longer."""
    read = Volume.read

    def slow(volume: Volume, box: Box, fill: int = 0, out: np.ndarray | None = None) -> np.ndarray:
        time.sleep(latency)
        return read(volume, box, fill, out)

    Volume.read = slow  # type: ignore[method-assign]
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for number in range(count + 1):
        for on in (True, False) if number % 2 else (False, True):
            plan = make_plan(folder, f"prefetch{number}{on}", model, block)
            wall, _ = timed(partial(run_engine, plan, prefetch=on))
            if number:
                seconds[on].append(wall)
    with_, without = (statistics.median(seconds[on]) for on in (True, False))
    blocks = len(plan.steps[0].jobs[0].phase.grid)
    print(
        f"{blocks} blocks, {latency:g} s more per read: {with_:.2f} s with prefetching, "
        f"{without:.2f} s without; {(without - with_) / blocks:.2f} s saved per block"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--model", default="")
    parser.add_argument("--side", type=int, nargs=3, default=(128, 128, 256))
    parser.add_argument("--block", type=int, nargs=3, default=(64, 128, 128))
    parser.add_argument("--latency", type=float, default=0.0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    bounds = Box((0, 0, 0), tuple(chosen.side))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = chosen.model or str(folder / "network.safetensors")
        if not chosen.model:
            fresh_network(Path(model))
        stored_image(folder, bounds)
        block = tuple(chosen.block)
        if chosen.latency:
            compare_prefetch(folder, model, block, chosen.latency, chosen.pairs)
        else:
            pairs(folder, model, bounds, block, chosen.pairs)


if __name__ == "__main__":
    main()
