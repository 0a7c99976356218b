"""Share of a run's CPU time that is not spent in the stages.

    python -m benchmarks.engine.share [BOUNDS [IMAGE]]

One run of pipelines/fib25.yaml in this process. IMAGE is a file in the folder of FIB-25; by default
it is sections 101-165 of the labelled slab. The total is the CPU time of all threads of this
process, from the import of the engine to the end of the run. CPU time during the functions of
stages is subtracted, which includes prefetching in another thread. The rest is planning, reading,
writing, compressing, markers and records. Import the modules once before: compiling them counts,
too, unless Python has stored the compiled files (see PYTHONDONTWRITEBYTECODE).
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

imports_start = time.process_time()

import volflow  # noqa: E402
from benchmarks.data import FIB25, RESOLUTION  # noqa: E402
from volflow.core.stage import find_stage  # noqa: E402

STAGES = ("intensity", "predict", "fragments", "agglomerate", "relabel", "borders", "pyramid")

inside = 0.0


def timed(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with its CPU time added to `inside`."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        global inside
        start = time.process_time()
        try:
            return function(*arguments, **named)
        finally:
            inside += time.process_time() - start

    return wrapped


def main() -> None:
    bounds = sys.argv[1] if len(sys.argv) > 1 else "101:165,0:250,0:250"
    image = f"hdf5://{FIB25}/ts2_z000-165.h5?dataset=raw"
    if len(sys.argv) > 2:
        image = f"{FIB25}/{sys.argv[2]}"
    with tempfile.TemporaryDirectory() as folder:
        options = [
            f"run={folder}",
            f"volumes.em.path={image}",
            f"volumes.em.resolution={list(RESOLUTION)}",
        ]
        for name in STAGES:
            kind = find_stage(name)
            for part in ("run", "leaf", "join", "split", "finish", "result"):
                if part in vars(kind):
                    setattr(kind, part, timed(vars(kind)[part]))
        imported = time.process_time() - imports_start
        result = volflow.run("fib25", overrides=options, bounds=bounds)
        assert result.ok, result.failures
    total = time.process_time() - imports_start
    print(f"{total:.1f} s of CPU time, {inside:.1f} s of it in the stages")
    print(f"the rest: {100 * (total - inside) / total:.1f} %, {imported:.1f} s of it imports")


if __name__ == "__main__":
    main()
