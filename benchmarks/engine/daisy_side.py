"""One run of daisy over blocks that do nothing; `benchmarks.engine.daisy` runs it.

    python -P benchmarks/engine/daisy_side.py BLOCKS WORKERS MODE [FOLDER]

It needs an environment with daisy, and does not import volflow. MODE is `processes` (a function of
a block, in worker processes), `loops` (a function of a worker that requests its blocks) or `serial`
(in this process). With FOLDER daisy stores the finished blocks there, and a second run resumes. It
prints JSON: the version, the blocks done, the blocks skipped because they were done, and the
seconds of `run_blockwise`, including the start of workers.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import daisy

SIDE = 64


def nothing(block: Any) -> None:
    """Do nothing."""


def loop() -> None:
    client = daisy.Client()
    while True:
        with client.acquire_block() as block:
            if block is None:
                return


def main() -> None:
    blocks, workers, mode = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    folder = sys.argv[4] if len(sys.argv) > 4 else None
    block = daisy.Roi((0, 0, 0), (SIDE, SIDE, SIDE))
    task = daisy.Task(
        task_id="nothing",
        total_roi=daisy.Roi((0, 0, 0), (SIDE * -(-blocks // 10_000), SIDE * 100, SIDE * 100)),
        read_roi=block,
        write_roi=block,
        process_function=loop if mode == "loops" else nothing,
        read_write_conflict=False,
        max_workers=workers,
        **({"tracking_path": folder} if folder else {}),
    )
    start = time.perf_counter()
    states = daisy.run_blockwise(
        task,
        multiprocessing=mode != "serial",
        progress=False,
        block_tracking=folder is not None,
        return_states=True,
        host="127.0.0.1",
        summary=False,
    )
    seconds, state = time.perf_counter() - start, states["nothing"]
    outcome = {"seconds": seconds, "done": state.completed_count, "already": state.skipped_count}
    print(json.dumps({"version": daisy.__version__, **outcome}))


if __name__ == "__main__":
    main()
