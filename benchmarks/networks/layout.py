"""Speed and accuracy of `predict`'s way to run a network, compared with the plain way.

    python -m benchmarks.networks.layout [--model NAME] [--rounds N] [--compile] [--no-baseline]

FIB-25, sections 135-165 alone, one thread. volflow uses bfloat16 and channels last, as `predict`
does on such a CPU, and returns uint8. The baseline is the same network, also with its normalisation
folded and its other heads dropped, in float32 and with torch's default memory layout. Both process
every tile in turns, in one process, in alternating order; the CPU time of a tile is the median over
the rounds. The output is the Mvoxel of the volume per second of both, their ratio, and the VI of
both segmentations (threshold 0.3, `min_size` 1000, as chosen on 120-135). --compile adds a third
way, with `compile: true`, and the wall time of its first tile, including compilation.

For a GPU see benchmarks.throughput.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from benchmarks.networks.quality import FIB25
from volflow.checkpoints.find import bundled_networks
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.train.data.sources import open_source
from volflow.train.validation.evaluate import InMemoryPipeline, predicted, score

CHANNELS = (0, 1, 2)
THRESHOLD, MIN_SIZE = 0.3, 1000


class Plain(Inference):
    """A network called in the plainest way."""

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self.network(torch.from_numpy(batch)[:, None]).sigmoid().numpy()


class Turns(Inference):
    """Several ways to compute a tile, one after the other; their outputs are stacked."""

    def __init__(self, ways: dict[str, Inference], rounds: int) -> None:
        first = next(iter(ways.values()))
        self.header, self.channels = first.header, list(CHANNELS) * len(ways)
        self.ways, self.rounds = ways, rounds
        self.seconds: dict[str, list[float]] = {name: [] for name in ways}
        self.first: dict[str, float] = {}

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        times: dict[str, list[float]] = {name: [] for name in self.ways}
        outputs: dict[str, np.ndarray] = {}
        names = list(self.ways)
        if not self.seconds[names[0]]:  # the first call on the first tile does not count
            for name, way in self.ways.items():
                start = time.perf_counter()
                way(batch)
                self.first[name] = time.perf_counter() - start
        for turn in range(self.rounds):
            for name in names if turn % 2 else names[::-1]:
                start = time.process_time()
                outputs[name] = self.ways[name](batch)
                times[name].append(time.process_time() - start)
        for name, seconds in times.items():
            self.seconds[name].append(statistics.median(seconds))
        return np.concatenate([outputs[name] for name in names], axis=1)


def ways(model: str, plain: bool, compiled: bool) -> dict[str, Inference]:
    """The way of volflow, and those it is compared with."""

    def load(kind: type[Inference] = Inference, precision: str = "auto", **more: bool) -> Inference:
        network, header = load_checkpoint(bundled_networks()[model])
        return kind(network, header, CHANNELS, "cpu", precision, **more)  # type: ignore[arg-type]

    several = {"ours": load()}
    if plain:
        several["baseline"] = load(Plain, "fp32")
        several["baseline"].network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    if compiled:
        several["compiled"] = load(compiled=True)
    return several


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="fib25-lsd", choices=list(bundled_networks()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no-baseline", action="store_true", help="skip the baseline")
    parser.add_argument("--tile", type=int, default=None, help="side of a tile in voxels")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    several = ways(arguments.model, not arguments.no_baseline, arguments.compile)
    ours = several["ours"]
    turns = Turns(several, arguments.rounds)
    source = open_source(FIB25["sections 135-165"]["alone"].shown, ours.header.normalisation)
    tile = (arguments.tile,) * 3 if arguments.tile else None
    outputs = predicted(turns, source.image, tile=tile)
    total = {name: sum(seconds) for name, seconds in turns.seconds.items()}
    print(f"{len(turns.seconds['ours'])} tiles, {arguments.rounds} rounds, bf16: {ours.bf16}")
    for place, (name, seconds) in enumerate(total.items()):
        pairs = zip(turns.seconds[name], turns.seconds["ours"], strict=True)
        ratios = [theirs / mine for theirs, mine in pairs]
        print(
            f"{name:9} {seconds:7.2f} s  {source.image.size / seconds / 1e6:.3f} Mvoxel/s  "
            f"{seconds / total['ours']:.2f} times ours (tiles: {min(ratios):.2f} to "
            f"{max(ratios):.2f}), the first tile {turns.first[name]:.1f} s",
            flush=True,
        )
        affinity = np.ascontiguousarray(outputs[3 * place : 3 * place + 3])
        result = score(
            InMemoryPipeline(affinity).segmentation(THRESHOLD, MIN_SIZE),
            source.truth,
            THRESHOLD,
        )
        print(
            f"{'':9} VI {result.vi:.4f} (split {result.vi_split:.4f}, merge "
            f"{result.vi_merge:.4f}), ARAND {result.arand:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
