"""Is the plan true: what `plan --trial BLOCKS` predicts against what the run takes.

    python -m benchmarks.plan_true [BLOCKS [PIPELINE ...]]     3; segment, scored, fib25

FIB-25 affinities mirrored to 320 x 256 x 256 voxels (blocks of 64³), the same with scores, and the
shipped network on 64 sections of the slab. Runs are on one local worker. Seconds are the work of
the blocks by the ledger, and so are those of processors, which do not depend on who else uses the
machine. Bytes are those of all files but markers and events; memory is the
largest peak of a worker.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.data import FIB25, RESOLUTION, labels, mirrored
from volflow.engine.api import make_plan
from volflow.engine.job import Plan
from volflow.engine.ranges import job_path
from volflow.engine.run import execute
from volflow.engine.trial import stored_bytes, try_out
from volflow.io.ledger import Ledger

SHAPE = (320, 256, 256)
BLOCK = "block=[64,64,64]"


def plans(folder: Path) -> dict[str, Plan]:
    """The pipelines by name, each with a run folder of its own."""
    affinity = mirrored(folder, SHAPE)
    segment = [BLOCK, f"volumes.affinity.path={affinity}"]
    em = [f"volumes.em.path=hdf5://{FIB25}/ts2_z000-165.h5?dataset=raw"]
    em += [f"volumes.em.resolution={list(RESOLUTION)}", BLOCK]
    truth = [f"volumes.truth.path={labels('neuron_ids')}"]
    truth += [f"volumes.truth.resolution={list(RESOLUTION)}"]
    slab = [BLOCK, *truth, f"volumes.affinity.path={affinity}"]
    chosen: dict[str, dict[str, Any]] = {
        "segment": {"pipeline": "segment", "overrides": segment},
        "scored": {
            "pipeline": "segment_and_score",
            "overrides": slab,
            "bounds": "0:128,0:250,0:250",
        },
        "fib25": {"pipeline": "fib25", "overrides": em, "bounds": "101:165,0:250,0:250"},
    }
    return {
        name: make_plan(
            each["pipeline"],
            overrides=[*each["overrides"], f"run={folder / name}"],
            bounds=each.get("bounds"),
        )
        for name, each in chosen.items()
    }


def measured(plan: Plan) -> tuple[dict[str, float], dict[str, float]]:
    """What a run of the plan took, and the processor seconds of each step."""
    result = execute(plan, cluster="local", workers=1)
    assert result.ok, result.failures
    ledger = Ledger(plan.pipeline.run)
    costs = [c for step in plan.steps for job in step.jobs for c in ledger.costs(job_path(job))]
    steps = {
        step.name: sum(
            cost.get("cpu", 0) for job in step.jobs for cost in ledger.costs(job_path(job))
        )
        for step in plan.steps
    }
    return {
        "work (s)": sum(cost.get("seconds", 0) for cost in costs),
        "processors (s)": sum(cost.get("cpu", 0) for cost in costs),
        "stored (MB)": stored_bytes(plan.pipeline.run) / 1e6,
        "memory (MiB)": max(cost.get("peak", 0) for cost in costs) / 2**20,
    }, steps


def predicted(plan: Plan, blocks: int) -> tuple[dict[str, float], dict[str, float]]:
    """What the trial of a few blocks says, and the processor seconds of each step."""
    found = try_out(plan, blocks)
    return {
        "work (s)": sum(step.work + step.start for step in found),
        "processors (s)": sum(step.cpu + step.start_cpu for step in found),
        "stored (MB)": sum(step.stored for step in found) / 1e6,
        "memory (MiB)": max(step.memory for step in found) / 2**20,
    }, {step.name: step.cpu + step.start_cpu for step in found}


def main() -> None:
    blocks = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(
        "| pipeline | what | predicted | measured | predicted / measured |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory(prefix="volflow-") as folder:
        for name, plan in plans(Path(folder)).items():
            if sys.argv[2:] and name not in sys.argv[2:]:
                continue
            begun = time.monotonic()
            (told, by_step), (took, took_step) = predicted(plan, blocks), measured(plan)
            for what, number in took.items():
                ratio = told[what] / number
                row = f"| {name} | {what} | {told[what]:.1f} | {number:.1f} | {ratio:.2f} |"
                print(row, flush=True)
            for step, seconds in by_step.items():
                print(f"# {step}: {seconds:.1f} of {took_step[step]:.1f} processor seconds")
            print(f"# {name}: {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
