"""Overhead of the engine: a stage that does nothing, over many blocks on local workers.

    python -m benchmarks.engine.overhead [BLOCKS] [WORKERS]     100,000 and 2

It prints the wall milliseconds per block, from the first block to the last, of five runs.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from typing import Any

from volflow.config.pipeline import from_dict
from volflow.core.geometry import Block, BlockGrid, Box
from volflow.core.stage import Stage
from volflow.engine.driver import prepare, run_step
from volflow.engine.executors.connect import connect
from volflow.engine.monitor.observer import RunObserver
from volflow.engine.plan.plan import plan
from volflow.engine.result import StepResult
from volflow.io.run.lock import RunLock


class Nothing(Stage):
    """A stage that neither reads nor writes."""

    def run(self, block: Block) -> dict[str, Any]:
        return {}


def measure(blocks: int, workers: int, repeats: int = 5) -> list[float]:
    """Wall seconds of one step, once per repeat, with workers already running."""
    side = 1 << 6
    bounds = Box((0, 0, 0), (side * -(-blocks // 10_000), side * 100, side * 100))
    assert len(BlockGrid(bounds, (side, side, side))) >= blocks
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        planned = [
            plan(
                from_dict(
                    {
                        "run": f"{folder}/{number}",
                        "bounds": str(bounds),
                        "resolution": [10, 10, 10],
                        "block": [side, side, side],
                        "volumes": {},
                        "steps": [{"use": "benchmarks.engine.overhead:Nothing", "name": "nothing"}],
                    }
                )
            )
            for number in range(repeats + 1)
        ]
        path = planned[0].search_path
        with connect("local", workers=workers, search_path=path) as executor:
            for one in planned:
                step = one.steps[0]
                prepare(one.pipeline.run, step)
                result = StepResult(step.name, step.blocks)
                with RunLock(one.pipeline.run) as lock:
                    start = time.perf_counter()
                    run_step(step, result, executor, RunObserver(), lock=lock)
                    seconds.append(time.perf_counter() - start)
                assert result.done == step.blocks >= blocks
    return seconds[1:]  # the first run starts the children


def main() -> None:
    blocks = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    seconds = measure(blocks, workers)
    per_block = [1000 * each / blocks for each in seconds]
    print(f"{blocks} blocks, {workers} workers, five runs: ms per block")
    print(
        "  ".join(f"{each:.4f}" for each in per_block),
        f" median {statistics.median(per_block):.4f}",
    )


if __name__ == "__main__":
    main()
