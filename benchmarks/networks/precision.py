"""Accuracy and speed of a bundled network in bfloat16 on a CPU, compared with float32.

    python -m benchmarks.networks.precision [SLAB ...] [--model generalist]

Slabs that the network was not trained on, as in benchmarks.networks.methods. For affinities and
foreground: mean, 99.9th percentile and maximum of the difference, in steps of 1/255. VI of both, at
the threshold and `min_size` in benchmarks/networks/methods.json, with and without the foreground,
and the mean and extreme changes of VI over all settings. Times are CPU seconds of one thread.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmarks.networks.methods import (
    CORD_PAIR,
    FIB_PAIR,
    FOREGROUND,
    GALA_PAIR,
    ISBI_PAIR,
    RESULTS,
    Setting,
    Slab,
    score_settings,
)
from volflow.checkpoints.find import find_network
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.segment.restrict import restricted
from volflow.train.data.samples import Source
from volflow.train.validation.evaluate import predicted

SLABS = {"fib25": FIB_PAIR, "gala": GALA_PAIR, "cord": CORD_PAIR, "isbi": ISBI_PAIR}
Precision = Literal["fp32", "bf16"]
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


def predict(weights: Path, source: Source, precision: Precision) -> tuple[np.ndarray, float]:
    """Three affinities and the foreground, uint8, and CPU seconds."""
    network, header = load_checkpoint(weights)
    channels = [*list(header.named["affinity"][1])[:3], header.named["foreground"][1][0]]
    inference = Inference(network, header, channels, "cpu", precision)
    start = time.process_time()
    values = predicted(inference, source.image)
    return values, time.process_time() - start


def compare(name: str, weights: Path, slab: Slab) -> None:
    """Print the differences on one slab."""
    source = slab.source(load_checkpoint(weights)[1])
    (exact, slow), (near, fast) = (predict(weights, source, precision) for precision in PRECISIONS)
    difference = np.abs(exact.astype(int) - near)
    print(f"{name} {slab.sections}: fp32 {slow:.1f} s, bf16 {fast:.1f} s, ratio {slow / fast:.2f}")
    for what, part in (("affinities", difference[:3]), ("foreground", difference[3])):
        high = np.quantile(part, 0.999)
        print(f"  {what}: mean {part.mean():.2f}, 99.9 % {high:.0f}, at most {part.max()} of 255")
    stored = json.loads(RESULTS.read_text())
    for row, restrict in ((f"generalist_{name}", True), (f"unrestricted_{name}", False)):
        scores = []
        for both in (exact, near):
            around = np.pad(both[3], [(1, 0)] * 3, mode="edge")
            affinity = restricted(both[:3], around, FOREGROUND) if restrict else both[:3]
            scores.append(score_settings(np.ascontiguousarray(affinity), source, slab.flat))
        at = Setting(stored[row]["threshold"], stored[row]["min_size"])
        vis = [by_setting[at].vi for by_setting in scores]
        changes = np.array([scores[1][setting].vi - scores[0][setting].vi for setting in scores[0]])
        print(
            f"  {'with' if restrict else 'without'} foreground: VI {vis[0]:.4f} fp32, {vis[1]:.4f} "
            f"bf16; over {len(changes)} settings {changes.mean():+.4f} on average, "
            f"{changes.min():+.4f} to {changes.max():+.4f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("slab", nargs="*", default=list(SLABS))
    parser.add_argument("--model", default="generalist")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    weights = Path(str(find_network(arguments.model, None, None).path))
    for name in arguments.slab:
        if name not in SLABS:
            parser.error(f"no slab '{name}'; there are {', '.join(SLABS)}")
        compare(name, weights, SLABS[name][1])


if __name__ == "__main__":
    main()
