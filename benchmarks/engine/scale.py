"""A million blocks that do nothing: overhead of the engine and Dask, and growth of memory.

    python -m benchmarks.engine.scale [BLOCKS] [WORKERS]       a million and 2 by default

A complete `execute`, with its event log and watchdog, on local workers. It prints the milliseconds
per block, the seconds from a ready cluster to the first block, the memory of the driver's and
scheduler's process at each quarter, and the time of `status` and of a repeated run afterwards: with
the few markers of so fast a run, and with one marker per block, as slow blocks write them.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from volflow.config.pipeline import from_dict
from volflow.core.geometry import Block, Box
from volflow.core.stage import Stage
from volflow.engine.driver import execute
from volflow.engine.job import Plan, PlannedStep
from volflow.engine.monitor.observer import RunObserver
from volflow.engine.monitor.status import status
from volflow.engine.plan import plan as planner
from volflow.engine.result import StepResult
from volflow.engine.worker.block_range import job_path

SIDE = 64
LAYER = 10_000  # blocks of one layer


class Nothing(Stage):
    """A stage that neither reads nor writes."""

    def run(self, block: Block) -> dict[str, Any]:  # type: ignore[override]
        return {}


class Clock(RunObserver):
    """Observer that records when the cluster was ready, the first block, and the memory."""

    def __init__(self, blocks: int) -> None:
        self.blocks, self.ready, self.first, self.ended = blocks, 0.0, 0.0, 0.0
        self.cpu = 0.0
        self.memory: list[int] = []

    def step_begins(self, step: PlannedStep, result: StepResult) -> None:
        self.ready, self.cpu = time.perf_counter(), time.process_time()

    def progress(self, step: PlannedStep, result: StepResult, phase: str) -> None:
        self.first = self.first or time.perf_counter()
        if result.done >= self.blocks * (len(self.memory) + 1) // 4:
            self.memory.append(psutil.Process().memory_info().rss)

    def step_ends(self, step: PlannedStep, result: StepResult) -> None:
        self.ended, self.cpu = time.perf_counter(), time.process_time() - self.cpu


def time_finished_run(plan: Plan, markers: str) -> None:
    """Print the time of `status` and of a repeated run, after a run has finished."""
    start = time.perf_counter()
    assert status(plan.pipeline.run).finished
    print(f"{markers}: status {time.perf_counter() - start:.2f} s", end=", ")
    start = time.perf_counter()
    assert execute(plan).steps[0].already == plan.steps[0].blocks
    print(f"repeated run {time.perf_counter() - start:.2f} s", flush=True)


def mark_each(plan: Plan) -> None:
    """Replace the markers of the only job by one marker per block."""
    job = plan.steps[0].jobs[0]
    done = Path(plan.pipeline.run) / "ledger" / job_path(job) / "done"
    body = next(done.iterdir()).read_bytes()
    for marker in list(done.iterdir()):
        marker.unlink()
    for number in range(len(job.phase.grid)):
        (done / f"{number}-{number + 1}").write_bytes(body)


def make_plan(folder: str, blocks: int) -> Plan:
    """A plan of this many blocks that do nothing, in layers of 10,000."""
    bounds = Box((0, 0, 0), (SIDE * -(-blocks // LAYER), SIDE * 100, SIDE * 100))
    document = {
        "run": folder,
        "bounds": str(bounds),
        "resolution": [10, 10, 10],
        "block": [SIDE] * 3,
        "volumes": {},
        "steps": [{"use": "benchmarks.engine.scale:Nothing", "name": "nothing"}],
    }
    return planner.plan(from_dict(document))


def main() -> None:
    blocks = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    with tempfile.TemporaryDirectory(prefix="volflow-") as folder:
        plan, clock = make_plan(folder, blocks), Clock(blocks)
        result = execute(plan, cluster="local", workers=workers, observer=clock)
        assert result.ok
        seconds = clock.ended - clock.ready
        print(
            f"{result.steps[0].done} blocks, {workers} workers, load {psutil.getloadavg()[0]:.0f}"
        )
        print(f"{1000 * seconds / blocks:.4f} ms per block, {seconds:.1f} s")
        print(f"{1000 * clock.cpu / blocks:.4f} ms of CPU time per block in driver and scheduler")
        print(f"first block after {clock.first - clock.ready:.2f} s")
        print("memory MiB at quarters:", *(each >> 20 for each in clock.memory))
        time_finished_run(plan, "its own markers")
        mark_each(plan)
        time_finished_run(plan, "one marker per block")


if __name__ == "__main__":
    main()
