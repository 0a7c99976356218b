"""A million blocks that do nothing: what the engine and Dask cost, and whether memory stays flat.

    python -m benchmarks.scale [BLOCKS] [WORKERS]       a million and 2 by default

A whole `execute`, with its event log and its watchdog, on local workers. Prints milliseconds per
block, seconds from a ready cluster to the first block, the memory of the process of driver and
scheduler at a quarter and at the end, and how long status and a repeated run take afterwards.
"""

from __future__ import annotations

import sys
import tempfile
import time
from typing import Any

import psutil

from volflow.core.geometry import Block, Box
from volflow.core.pipeline import from_dict
from volflow.core.stage import Stage
from volflow.engine.job import PlannedStep, StepResult
from volflow.engine.plan import plan
from volflow.engine.run import execute
from volflow.engine.status import status
from volflow.engine.watch import Watcher

SIDE = 64


class Nothing(Stage):
    """Neither reads nor writes."""

    def run(self, block: Block) -> dict[str, Any]:  # type: ignore[override]
        return {}


class Clock(Watcher):
    """When the cluster was ready, when the first block was done, and memory on the way."""

    def __init__(self, blocks: int) -> None:
        self.blocks, self.ready, self.first, self.ended = blocks, 0.0, 0.0, 0.0
        self.cpu = 0.0
        self.memory: list[int] = []

    def step_begins(self, step: PlannedStep, result: StepResult) -> None:
        self.ready, self.cpu = time.perf_counter(), time.process_time()

    def progress(self, step: PlannedStep, result: StepResult, sweep: str) -> None:
        self.first = self.first or time.perf_counter()
        if result.done >= self.blocks * (len(self.memory) + 1) // 4:
            self.memory.append(psutil.Process().memory_info().rss)

    def step_ends(self, step: PlannedStep, result: StepResult) -> None:
        self.ended, self.cpu = time.perf_counter(), time.process_time() - self.cpu


def main() -> None:
    blocks = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    bounds = Box((0, 0, 0), (SIDE * -(-blocks // 10_000), SIDE * 100, SIDE * 100))
    with tempfile.TemporaryDirectory(prefix="volflow-") as folder:
        document = {
            "run": folder,
            "bounds": str(bounds),
            "resolution": [10, 10, 10],
            "block": [SIDE] * 3,
            "volumes": {},
            "steps": [{"use": "benchmarks.scale:Nothing", "name": "nothing"}],
        }
        planned, clock = plan(from_dict(document)), Clock(blocks)
        result = execute(planned, cluster="local", workers=workers, watcher=clock)
        assert result.ok
        seconds = clock.ended - clock.ready
        print(
            f"{result.steps[0].done} blocks, {workers} workers, load {psutil.getloadavg()[0]:.0f}"
        )
        print(f"{1000 * seconds / blocks:.4f} ms per block, {seconds:.1f} s")
        print(f"{1000 * clock.cpu / blocks:.4f} ms of processor per block in driver and scheduler")
        print(f"first block after {clock.first - clock.ready:.2f} s")
        print("memory MiB at quarters:", *(each >> 20 for each in clock.memory))
        begun = time.perf_counter()
        assert status(folder).finished
        print(f"status {time.perf_counter() - begun:.2f} s")
        begun = time.perf_counter()
        assert execute(planned).steps[0].already == result.steps[0].total
        print(f"repeated run {time.perf_counter() - begun:.2f} s")


if __name__ == "__main__":
    main()
