"""What `predict`'s way of showing tiles gains over the plain one, and what it costs in accuracy.

    python -m benchmarks.throughput [--model NAME] [--rounds N] [--compile] [--no-baseline]

FIB-25, sections 135-165 shown alone, one thread. Ours: bfloat16 and channels last, as `predict`
does it on such a processor, uint8 out. The baseline: the same network, its normalisation folded and
its other heads dropped as well, in float32 and with the layout that torch gives a tensor. Both see
every tile in turns, in one process, and who goes first changes; of a tile's processor times the
median of the rounds counts. Printed: Mvoxel of the volume per second of both, their ratio, and VI
of the segmentations that both give (threshold 0.3, `min_size` 1000, as chosen on 120-135).
--compile: a third, ours with `compile: true`; what its first tile took, compiling included, on the
clock on the wall.

On a GPU the baseline is the bare network over tiles that lie there already, in ours' precision, and
the clock on the wall counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.quality import FIB25
from volflow.checkpoints.find import bundled_networks
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.train.data.sources import open_source
from volflow.train.validation.evaluate import InMemoryPipeline, predicted, score

CHANNELS = (0, 1, 2)
THRESHOLD, MIN_SIZE = 0.3, 1000


class Plain(Inference):
    """A network as one would first call it."""

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self.network(torch.from_numpy(batch)[:, None]).sigmoid().numpy()


class Bare(Inference):
    """A network on a GPU, its tile there already; its answer stays there."""

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        if not hasattr(self, "tile"):
            made = torch.from_numpy(batch)[:, None].to(self.device, self.dtype)
            self.tile = made.contiguous(memory_format=torch.channels_last_3d)
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, not self.whole_bf16):
            self.network(self.tile)
        torch.cuda.synchronize()
        return np.zeros((len(batch), len(CHANNELS), *batch.shape[-3:]), "float32")


class Turns(Inference):
    """Several ways to compute a tile, one after the other; the answers side by side."""

    def __init__(self, ways: dict[str, Inference], rounds: int, clock: Callable[[], float]) -> None:
        first = next(iter(ways.values()))
        self.header, self.channels = first.header, list(CHANNELS) * len(ways)
        self.ways, self.rounds, self.clock = ways, rounds, clock
        self.seconds: dict[str, list[float]] = {name: [] for name in ways}
        self.first: dict[str, float] = {}

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        times: dict[str, list[float]] = {name: [] for name in self.ways}
        made: dict[str, np.ndarray] = {}
        names = list(self.ways)
        if not self.seconds[names[0]]:  # of the first tile, the first time is not counted
            for name, way in self.ways.items():
                begun = time.perf_counter()
                way(batch)
                self.first[name] = time.perf_counter() - begun
        for turn in range(self.rounds):
            for name in names if turn % 2 else names[::-1]:
                begun = self.clock()
                made[name] = self.ways[name](batch)
                times[name].append(self.clock() - begun)
        for name, found in times.items():
            self.seconds[name].append(statistics.median(found))
        return np.concatenate([made[name] for name in names], axis=1)


def ways(model: str, plain: bool, compiled: bool) -> dict[str, Inference]:
    """Ours, and what it is compared with."""

    def made(kind: type[Inference] = Inference, precision: str = "auto", **more: bool) -> Inference:
        network, header = load_checkpoint(bundled_networks()[model])
        return kind(network, header, CHANNELS, "auto", precision, **more)  # type: ignore[arg-type]

    found = {"ours": made()}
    if found["ours"].device.type == "cuda":
        found["bare"] = made(Bare)
    elif plain:
        found["baseline"] = made(Plain, "fp32")
        found["baseline"].network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if compiled:
        found["compiled"] = made(compiled=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="fib25-lsd", choices=list(bundled_networks()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no-baseline", action="store_true", help="it takes longest")
    parser.add_argument("--tile", type=int, default=None, help="shown at once, its side")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    several = ways(chosen.model, not chosen.no_baseline, chosen.compile)
    ours = several["ours"]
    on_gpu = ours.device.type == "cuda"
    turns = Turns(several, chosen.rounds, time.perf_counter if on_gpu else time.process_time)
    source = open_source(FIB25["sections 135-165"]["alone"].shown, ours.header.normalisation)
    tile = (chosen.tile,) * 3 if chosen.tile else None
    made = predicted(turns, source.image, tile=tile)
    total = {name: sum(found) for name, found in turns.seconds.items()}
    print(f"{len(turns.seconds['ours'])} tiles, {chosen.rounds} rounds, bf16: {ours.bf16}")
    for place, (name, seconds) in enumerate(total.items()):
        pairs = zip(turns.seconds[name], turns.seconds["ours"], strict=True)
        ratios = [theirs / mine for theirs, mine in pairs]
        print(
            f"{name:9} {seconds:7.2f} s  {source.image.size / seconds / 1e6:.3f} Mvoxel/s  "
            f"{seconds / total['ours']:.2f} times ours (tiles: {min(ratios):.2f} to "
            f"{max(ratios):.2f}), the first tile {turns.first[name]:.1f} s",
            flush=True,
        )
        if name != "bare":
            affinity = np.ascontiguousarray(made[3 * place : 3 * place + 3])
            found = score(
                InMemoryPipeline(affinity).segmentation(THRESHOLD, MIN_SIZE),
                source.truth,
                THRESHOLD,
            )
            print(
                f"{'':9} VI {found.vi:.4f} (split {found.vi_split:.4f}, merge "
                f"{found.vi_merge:.4f}), ARAND {found.arand:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
