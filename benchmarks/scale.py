"""A million blocks that do nothing: what the engine and Dask cost, and whether memory stays flat.

    python -m benchmarks.scale [BLOCKS] [WORKERS]       a million and 2 by default

A whole `execute`, with its event log and its watchdog, on local workers. Prints milliseconds per
block, seconds from a ready cluster to the first block, the memory of the process of driver and
scheduler at a quarter and at the end, and how long status and a repeated run take afterwards: with
the few markers that so fast a run leaves, and with a marker for each block, as slow blocks leave.
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
from volflow.engine.plan.plan import plan
from volflow.engine.result import StepResult
from volflow.engine.worker.block_range import job_path

SIDE = 64
LAYER = 10_000  # blocks of one layer


class Nothing(Stage):
    """Neither reads nor writes."""

    def run(self, block: Block) -> dict[str, Any]:  # type: ignore[override]
        return {}


class Clock(RunObserver):
    """When the cluster was ready, when the first block was done, and memory on the way."""

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


def look_again(planned: Plan, how: str) -> None:
    """Print how long status and a repeated run of a finished run take."""
    begun = time.perf_counter()
    assert status(planned.pipeline.run).finished
    print(f"{how}: status {time.perf_counter() - begun:.2f} s", end=", ")
    begun = time.perf_counter()
    assert execute(planned).steps[0].already == planned.steps[0].blocks
    print(f"repeated run {time.perf_counter() - begun:.2f} s", flush=True)


def mark_each(planned: Plan) -> None:
    """Replace the markers of the only job by one for each block."""
    job = planned.steps[0].jobs[0]
    done = Path(planned.pipeline.run) / "ledger" / job_path(job) / "done"
    body = next(done.iterdir()).read_bytes()
    for marker in list(done.iterdir()):
        marker.unlink()
    for number in range(len(job.phase.grid)):
        (done / f"{number}-{number + 1}").write_bytes(body)


def plan_of(folder: str, blocks: int) -> Plan:
    """A plan of so many blocks that do nothing, in layers of 10,000."""
    bounds = Box((0, 0, 0), (SIDE * -(-blocks // LAYER), SIDE * 100, SIDE * 100))
    document = {
        "run": folder,
        "bounds": str(bounds),
        "resolution": [10, 10, 10],
        "block": [SIDE] * 3,
        "volumes": {},
        "steps": [{"use": "benchmarks.scale:Nothing", "name": "nothing"}],
    }
    return plan(from_dict(document))


def main() -> None:
    blocks = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    with tempfile.TemporaryDirectory(prefix="volflow-") as folder:
        planned, clock = plan_of(folder, blocks), Clock(blocks)
        result = execute(planned, cluster="local", workers=workers, observer=clock)
        assert result.ok
        seconds = clock.ended - clock.ready
        print(
            f"{result.steps[0].done} blocks, {workers} workers, load {psutil.getloadavg()[0]:.0f}"
        )
        print(f"{1000 * seconds / blocks:.4f} ms per block, {seconds:.1f} s")
        print(f"{1000 * clock.cpu / blocks:.4f} ms of processor per block in driver and scheduler")
        print(f"first block after {clock.first - clock.ready:.2f} s")
        print("memory MiB at quarters:", *(each >> 20 for each in clock.memory))
        look_again(planned, "as it ran")
        mark_each(planned)
        look_again(planned, "a marker for each block")


if __name__ == "__main__":
    main()
