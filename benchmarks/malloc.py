"""What Dask's setting of malloc costs the blocks of a segmentation.

    python -m benchmarks.malloc

Dask starts its workers with MALLOC_TRIM_THRESHOLD_=65536, which volflow does not pass on to the
process that runs the blocks. Here all passes of `segment` on 320 x 256 x 256 mirrored voxels, in
blocks of 64³, are done three times by two such processes in turns, one of them with that setting
(one byte more, by which it counts as the user's own and is left alone). Seconds are of processors.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks.plan_true import plans
from volflow.engine.driver import prepare
from volflow.engine.job import Plan
from volflow.engine.worker.child_process import DASKS_MALLOC, Child

ROUNDS = 3


def phases(plan: Plan, children: dict[str, Child]) -> dict[str, float]:
    """Processor seconds of all passes by each of the children, who take turns."""
    took = dict.fromkeys(children, 0.0)
    names = list(children)
    for step in plan.steps:
        prepare(plan.pipeline.run, step)
        for job in step.jobs:
            count = len(job.phase.grid)
            for name in names:
                outcome = children[name].run(job, 0, count)
                assert not outcome.failures, outcome.failures
                took[name] += outcome.cpu
            names.reverse()
    return took


def started(search_path: tuple[str, ...], **environment: str) -> Child:
    """A child that was started with these variables set."""
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        child = Child(search_path)
        child.start()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return child


def main() -> None:
    name, value = DASKS_MALLOC
    with tempfile.TemporaryDirectory(prefix="volflow-") as folder:
        plan = plans(Path(folder))["segment"]()
        children = {
            "ours": started(plan.search_path),
            "Dask's": started(plan.search_path, **{name: str(int(value) + 1)}),
        }
        phases(plan, children)  # loads and compiles
        print("| run | ours | Dask's | ours / Dask's |\n|---|---|---|---|")
        for number in range(ROUNDS):
            took = phases(plan, children)
            ours, dasks = took["ours"], took["Dask's"]
            print(
                f"| run {number + 1} | {ours:.1f} | {dasks:.1f} | {ours / dasks:.2f} |", flush=True
            )
        for child in children.values():
            child.close()


if __name__ == "__main__":
    main()
