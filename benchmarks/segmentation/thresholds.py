"""CPU time of five thresholds in one run, compared with five runs, in turns.

    python -m benchmarks.segmentation.thresholds [PAIRS]      default 3

The baseline affinities of FIB-25, 125 x 250 x 250 voxels in blocks of 64³, in one process with one
thread. One run: fragments, agglomerate with a list, sweep. Five runs: fragments, agglomerate,
relabel, score; their scores must be the same. The list is also run with `min_size: 2000`, where the
phase for small segments is repeated for each threshold.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from statistics import median
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import volflow
from benchmarks.data import AFFINITY, labels

THRESHOLDS = [0.2, 0.3, 0.4, 0.5, 0.6]
VOLUMES = {
    "affinity": AFFINITY,
    "truth": labels("neuron_ids"),
}


def run(
    folder: str, threshold: Any, min_size: int, last: list[dict[str, Any]]
) -> tuple[float, Any]:
    """CPU seconds and results of a run."""
    agglomerate = {"threshold": threshold, "min_size": min_size}
    document = {
        "run": folder,
        "bounds": "20:145,0:250,0:250",
        "block": [64, 64, 64],
        "volumes": {n: {"path": p, "resolution": [10, 10, 10]} for n, p in VOLUMES.items()},
        "steps": [{"use": "fragments"}, {"use": "agglomerate", "with": agglomerate}, *last],
    }
    start = time.process_time()
    result = volflow.run(document)
    assert result.ok, result.failures
    return time.process_time() - start, result.results


def pair(folder: str, min_size: int) -> tuple[float, float]:
    """CPU seconds of the run with the list and of five runs, whose scores must be equal."""
    listed, sweep = run(f"{folder}/list", THRESHOLDS, min_size, [{"use": "sweep"}])
    single = 0.0
    for entry in sweep["sweep"]["thresholds"]:
        at = entry["threshold"]
        last = [{"use": "relabel"}, {"use": "score"}]
        took, results = run(f"{folder}/{at}", at, min_size, last)
        single += took
        for name, value in entry.items():
            assert name == "threshold" or results["score"][name] == value, (at, name)
    return listed, single


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print("| min_size | one run (s) | five runs (s) | ratio, median of pairs |\n|---|---|---|---|")
    for min_size in (0, 2000):
        with tempfile.TemporaryDirectory() as folder:
            pair(f"{folder}/warm", min_size)
            taken = [pair(f"{folder}/{number}", min_size) for number in range(pairs)]
        one, five = (median(each) for each in zip(*taken, strict=True))
        ratio = median(b / a for a, b in taken)
        print(f"| {min_size} | {one:.1f} | {five:.1f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
