"""The cost of Dask's malloc setting for the blocks of a segmentation.

    python -m benchmarks.engine.malloc

Dask starts its workers with MALLOC_TRIM_THRESHOLD_=65536, which volflow does not pass to the child
process that runs the blocks. All phases of `segment` on 320 x 256 x 256 mirrored voxels, in blocks
of 64³, are run three times by two child processes in turns, one of them with that setting (plus one
byte, which makes it a setting of the user that stays). Times are CPU seconds.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks.engine.plan_true import plans
from volflow.engine.driver import prepare
from volflow.engine.job import Plan
from volflow.engine.worker.child_process import DASKS_MALLOC, Child

ROUNDS = 3


def run_phases(plan: Plan, children: dict[str, Child]) -> dict[str, float]:
    """CPU seconds of all phases by each child process, in turns."""
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


def start_child(search_path: tuple[str, ...], **environment: str) -> Child:
    """Start a child process with additional environment variables."""
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
            "volflow": start_child(plan.search_path),
            "Dask": start_child(plan.search_path, **{name: str(int(value) + 1)}),
        }
        run_phases(plan, children)  # loads and compiles
        print("| run | volflow | Dask | volflow / Dask |\n|---|---|---|---|")
        for number in range(ROUNDS):
            took = run_phases(plan, children)
            ours, dasks = took["volflow"], took["Dask"]
            print(
                f"| run {number + 1} | {ours:.1f} | {dasks:.1f} | {ours / dasks:.2f} |", flush=True
            )
        for child in children.values():
            child.close()


if __name__ == "__main__":
    main()
