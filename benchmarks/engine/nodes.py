"""CPU time of the nodes of `agglomerate`, by level.

    python -m benchmarks.engine.nodes [SIDE]

The pipeline `segment` on FIB-25 affinities mirrored to SIDE³ voxels (512), in blocks of 64³, in
this process. The table has the mean CPU milliseconds of a node by round, by the node's shape and by
the share of its surface that borders on other blocks.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean

from benchmarks.data import mirrored
from volflow.core.geometry import Triple
from volflow.core.geometry.shapes import shape_counts
from volflow.engine.api import make_plan
from volflow.engine.driver import prepare
from volflow.engine.job import Plan
from volflow.engine.phases.registry import run_block

Kind = tuple[str, str, Triple, float]
"""Round, kind of phase, shape, and share of the surface that borders on other blocks."""


def costs(plan: Plan) -> dict[Kind, list[float]]:
    """Milliseconds of each node, in all phases of the plan."""
    times = defaultdict(list)
    for step in plan.steps:
        prepare(plan.pipeline.run, step)
        for job in step.jobs:
            grid = job.phase.grid
            for number in range(len(grid)):
                start = time.process_time()
                run_block(job, number)
                took = 1000 * (time.process_time() - start)
                if job.phase.kind in ("join", "split"):
                    write = grid[number].write
                    ((_, shape, share),) = shape_counts(type(grid)(write, write.shape), grid.bounds)
                    times[job.phase.round_name, job.phase.kind, shape, share].append(took)
    return times


def main() -> None:
    side = int(sys.argv[1]) if len(sys.argv) > 1 else 512
    with tempfile.TemporaryDirectory(prefix="volflow-") as folder:
        path = mirrored(Path(folder), (side, side, side))
        overrides = ["block=[64,64,64]", f"volumes.affinity.path={path}", f"run={folder}/run"]
        times = costs(make_plan("segment", overrides=overrides, until="agglomerate"))
    print("| round | phase | node | open | nodes | ms each |\n|---|---|---|---|---|---|")
    for (round_name, kind, shape, share), took in sorted(times.items()):
        text = " x ".join(map(str, shape))
        print(f"| {round_name} | {kind} | {text} | {share:.2f} | {len(took)} | {mean(took):.1f} |")


if __name__ == "__main__":
    main()
