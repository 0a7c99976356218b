"""One run of daisy over blocks that do nothing; called by `benchmarks.daisy`, knows no volflow.

    python -P daisy_side.py BLOCKS WORKERS MODE [FOLDER]

It runs in the Python that has daisy, which need not be volflow's. `MODE` is `processes` (a function
of a block, workers in processes of their own), `loops` (a function of a worker, which asks for its
blocks itself) or `serial` (in this process). With `FOLDER` daisy keeps there what is done, and a
second run goes on where the first one stopped. Prints JSON: version, blocks done, blocks passed
over because they were done, and the seconds of `run_blockwise`, starting workers included.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import daisy

SIDE = 64


def nothing(block: Any) -> None:
    """Neither reads nor writes."""


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
    begun = time.perf_counter()
    states = daisy.run_blockwise(
        task,
        multiprocessing=mode != "serial",
        progress=False,
        block_tracking=folder is not None,
        return_states=True,
        host="127.0.0.1",
        summary=False,
    )
    seconds, state = time.perf_counter() - begun, states["nothing"]
    found = {"seconds": seconds, "done": state.completed_count, "already": state.skipped_count}
    print(json.dumps({"version": daisy.__version__, **found}))


if __name__ == "__main__":
    main()
