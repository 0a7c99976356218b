"""Five thresholds from one run against five runs, in turns: processor time, and the same scores.

    python -m benchmarks.thresholds [PAIRS]      default 3

The baseline FIB-25 affinities, 125 x 250 x 250 voxels in blocks of 64³, one process, one thread.
One run: fragments, agglomerate with a list, sweep. Five runs: fragments, agglomerate, relabel,
score. The list is also run with `min_size: 2000`, where the size pass is repeated per threshold.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import volflow

HERE = Path(__file__).parents[1]
DATA = Path(os.environ.get("VOLFLOW_DATA", HERE.parent / "shared" / "data")) / "fib25_medulla"
THRESHOLDS = [0.2, 0.3, 0.4, 0.5, 0.6]
VOLUMES = {
    "affinity": f"hdf5://{DATA}/affinity_baseline_z000-165.h5?dataset=affinity",
    "truth": f"hdf5://{DATA}/ts2_z000-165.h5?dataset=neuron_ids",
}


def run(
    folder: str, threshold: Any, min_size: int, last: list[dict[str, Any]]
) -> tuple[float, Any]:
    """Seconds of processor time and the results of a run."""
    agglomerate = {"threshold": threshold, "min_size": min_size}
    document = {
        "run": folder,
        "bounds": "20:145,0:250,0:250",
        "block": [64, 64, 64],
        "volumes": {n: {"path": p, "resolution": [10, 10, 10]} for n, p in VOLUMES.items()},
        "steps": [{"use": "fragments"}, {"use": "agglomerate", "with": agglomerate}, *last],
    }
    begun = time.process_time()
    result = volflow.run(document)
    assert result.ok, result.failures
    return time.process_time() - begun, result.results


def pair(folder: str, min_size: int) -> tuple[float, float]:
    """Processor time of the list and of five runs, which have to say the same."""
    listed, sweep = run(f"{folder}/list", THRESHOLDS, min_size, [{"use": "sweep"}])
    single = 0.0
    for entry in sweep["sweep"]["thresholds"]:
        at = entry["threshold"]
        last = [{"use": "relabel"}, {"use": "score"}]
        took, found = run(f"{folder}/{at}", at, min_size, last)
        single += took
        for name, value in entry.items():
            assert name == "threshold" or found["score"][name] == value, (at, name)
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
