"""What bfloat16 costs and gains a network that is shipped, against float32, on a processor.

    python -m benchmarks.precision [SLAB ...] [--model generalist]

Slabs that it was not trained on, as in benchmarks.methods. Of the affinities and the foreground, in
steps of 1/255: mean, 99.9th percentile and greatest difference. VI by both, at the threshold and
`min_size` that benchmarks/methods.json has for the slab, with foreground and without, and over all
settings the mean and the greatest change of VI. Seconds are of the processor, one thread, both ways
one after the other.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmarks.methods import (
    CORD_PAIR,
    FIB_PAIR,
    GALA_PAIR,
    ISBI_PAIR,
    KEPT,
    LEAST,
    Setting,
    Slab,
    tried,
)
from volflow.checkpoints.find import find_network
from volflow.models.checkpoint import load_checkpoint
from volflow.models.inference import Inference
from volflow.segment.restrict import restricted
from volflow.train.data.samples import Source
from volflow.train.validation.evaluate import predicted

SLABS = {"fib25": FIB_PAIR, "gala": GALA_PAIR, "cord": CORD_PAIR, "isbi": ISBI_PAIR}
Way = Literal["fp32", "bf16"]
WAYS: tuple[Way, ...] = ("fp32", "bf16")


def made(weights: Path, source: Source, precision: Way) -> tuple[np.ndarray, float]:
    """Three affinities and foreground, uint8, and processor seconds."""
    network, header = load_checkpoint(weights)
    channels = [*list(header.named["affinity"][1])[:3], header.named["foreground"][1][0]]
    shown = Inference(network, header, channels, "cpu", precision)
    begun = time.process_time()
    found = predicted(shown, source.image)
    return found, time.process_time() - begun


def told(name: str, weights: Path, slab: Slab) -> None:
    """Print what one slab says."""
    source = slab.source(load_checkpoint(weights)[1])
    (exact, slow), (near, fast) = (made(weights, source, way) for way in WAYS)
    apart = np.abs(exact.astype(int) - near)
    print(f"{name} {slab.sections}: fp32 {slow:.1f} s, bf16 {fast:.1f} s, ratio {slow / fast:.2f}")
    for what, part in (("affinities", apart[:3]), ("foreground", apart[3])):
        far = np.quantile(part, 0.999)
        print(f"  {what}: mean {part.mean():.2f}, 99.9 % {far:.0f}, at most {part.max()} of 255")
    kept = json.loads(KEPT.read_text())
    for row, restrict in ((f"generalist_{name}", True), (f"unrestricted_{name}", False)):
        scores = []
        for both in (exact, near):
            around = np.pad(both[3], [(1, 0)] * 3, mode="edge")
            affinity = restricted(both[:3], around, LEAST) if restrict else both[:3]
            scores.append(tried(np.ascontiguousarray(affinity), source, slab.flat))
        at = Setting(kept[row]["threshold"], kept[row]["min_size"])
        vis = [found[at].vi for found in scores]
        changes = np.array([scores[1][setting].vi - scores[0][setting].vi for setting in scores[0]])
        print(
            f"  {'with' if restrict else 'without'} foreground: VI {vis[0]:.4f} fp32, {vis[1]:.4f} "
            f"bf16; over {len(changes)} settings {changes.mean():+.4f} in the mean, "
            f"{changes.min():+.4f} to {changes.max():+.4f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("slab", nargs="*", default=list(SLABS))
    parser.add_argument("--model", default="generalist")
    given = parser.parse_args()
    torch.set_num_threads(1)
    weights = Path(str(find_network(given.model, None, None).path))
    for name in given.slab:
        if name not in SLABS:
            parser.error(f"no slab '{name}'; there are {', '.join(SLABS)}")
        told(name, weights, SLABS[name][1])


if __name__ == "__main__":
    main()
