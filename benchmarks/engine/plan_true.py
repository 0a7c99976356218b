"""Accuracy of a plan: the prediction of `plan --trial BLOCKS` against the run.

    python -m benchmarks.engine.plan_true [BLOCKS [PIPELINE ...]]     3; segment, scored, fib25

The pipelines are `segment` on FIB-25 affinities mirrored to 320 x 256 x 256 voxels (blocks of 64³),
the same with scores (`scored`), and the bundled network on 64 sections of the slab (`fib25`). The
rules of the estimate were made with these. Others, for a test of the rules, are `flat` (`segment`
with other bounds and with flat blocks that do not divide them), `lsd` (another network, in blocks
that do not fit its tiles) and `mito` (mitochondria in sections).

Runs use one local worker. `clock` is the wall time of the steps, from a ready worker, against the
predicted hours. `work` and `processors` are wall and CPU seconds of the blocks in the ledger; the
latter do not depend on other users of the machine. Bytes are those of all files except markers and
events; memory is the largest peak of a worker.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.data import DATA, FIB25, RESOLUTION, labels, mirrored
from volflow.engine.api import make_plan
from volflow.engine.driver import execute
from volflow.engine.estimate.trial import hours, run_trial, stored_bytes
from volflow.engine.job import Plan
from volflow.engine.worker.block_range import job_path
from volflow.io.run.ledger import Ledger

SHAPE = (320, 256, 256)
CUBES = "block=[64,64,64]"
USUAL = ("segment", "scored", "fib25")
CLOCK, WORK, PROCESSORS = "clock (s)", "work (s)", "processors (s)"
STORED, MEMORY = "stored (MB)", "memory (MiB)"


def plans(folder: Path) -> dict[str, Callable[[], Plan]]:
    """The pipelines by name, each with its own run folder."""
    affinity = [f"volumes.affinity.path={mirrored(folder, SHAPE)}"]
    truth = [f"volumes.truth.path={labels('neuron_ids')}"]
    truth += [f"volumes.truth.resolution={list(RESOLUTION)}"]
    slab = [f"volumes.em.path=hdf5://{FIB25}/ts2_z000-165.h5?dataset=raw"]
    slab += [f"volumes.em.resolution={list(RESOLUTION)}"]
    cortex = f"hdf5://{DATA}/kasthuri_mito/wide_z000-087.h5?dataset=raw"
    sections = [f"volumes.em.path={cortex}", "volumes.em.resolution=[30,24,24]"]
    chosen: dict[str, tuple[str, list[str], str | None]] = {
        "segment": ("segment", [CUBES, *affinity], None),
        "scored": ("segment_and_score", [CUBES, *truth, *affinity], "0:128,0:250,0:250"),
        "fib25": ("fib25", [CUBES, *slab], "101:165,0:250,0:250"),
        "flat": ("segment", ["block=[32,112,96]", *affinity], "30:310,5:255,11:251"),
        "lsd": ("lsd", ["block=[48,80,96]", *slab], "5:101,0:240,10:250"),
        "mito": ("mito", ["block=[16,128,128]", *sections], "30:62,0:256,0:384"),
    }
    return {
        name: partial(
            make_plan, pipeline, overrides=[*overrides, f"run={folder / name}"], bounds=bounds
        )
        for name, (pipeline, overrides, bounds) in chosen.items()
    }


Amounts = dict[str, float]
"""Numbers by quantity: `CLOCK`, `WORK`, ..."""


def measured(plan: Plan) -> tuple[Amounts, dict[str, Amounts]]:
    """The amounts of a run of the plan: in total, and by step."""
    result = execute(plan, cluster="local", workers=1)
    clock = sum(step.seconds for step in result.steps)
    assert result.ok, result.failures
    ledger = Ledger(plan.pipeline.run)
    steps = {}
    for step in plan.steps:
        costs = [cost for job in step.jobs for cost in ledger.costs(job_path(job))]
        steps[step.name] = _amounts(
            sum(cost.get("seconds", 0) for cost in costs),
            sum(cost.get("cpu", 0) for cost in costs),
            max((cost.get("peak", 0) for cost in costs), default=0),
        )
    stored = stored_bytes(plan.pipeline.run)
    return {CLOCK: clock, **_together(steps), STORED: stored / 1e6}, steps


def predicted(plan: Plan, blocks: int) -> tuple[Amounts, dict[str, Amounts]]:
    """The amounts that a trial of a few blocks predicts: in total, and by step."""
    trial = run_trial(plan, blocks)
    steps = {
        step.name: _amounts(step.work + step.start_cpu, step.cpu + step.start_cpu, step.memory)
        for step in trial
    }
    stored = sum(step.stored for step in trial)
    return {CLOCK: 3600 * hours(trial, 1), **_together(steps), STORED: stored / 1e6}, steps


def _amounts(seconds: float, cpu: float, peak: float) -> Amounts:
    return {WORK: seconds, PROCESSORS: cpu, MEMORY: peak / 2**20}


def _together(steps: dict[str, Amounts]) -> Amounts:
    """The amounts of all steps, one after another in one worker."""
    every = list(steps.values())
    added = {what: sum(step[what] for step in every) for what in (WORK, PROCESSORS)}
    return {**added, MEMORY: max(step[MEMORY] for step in every)}


def main() -> None:
    blocks = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(
        "| pipeline | what | predicted | measured | predicted / measured |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory(prefix="volflow-") as folder:
        for name, make in plans(Path(folder)).items():
            if name not in (sys.argv[2:] or USUAL):
                continue
            plan, start = make(), time.monotonic()
            prediction, by_step = predicted(plan, blocks)
            trial_seconds = time.monotonic() - start
            took, took_step = measured(plan)
            for what, number in took.items():
                ratio = prediction[what] / number
                row = f"| {name} | {what} | {prediction[what]:.1f} | {number:.1f} | {ratio:.2f} |"
                print(row, flush=True)
            for step, numbers in by_step.items():
                texts = [
                    f"{what} {n:.1f} of {took_step[step][what]:.1f}" for what, n in numbers.items()
                ]
                print(f"# {step}: {', '.join(texts)}")
            print(f"# {name}: trial {trial_seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
